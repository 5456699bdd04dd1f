"""The engine's public face: trains a batch of runs in jitted chunks and measures inside the loop.

`train` is a Python loop over chunks of steps. It looks in at their borders alone, where results are
written, state is checkpointed and finished runs are dropped. What happens inside a chunk is
compiled: :mod:`phenodl.engine.step` moves one run by one step, :mod:`phenodl.engine.blocks` scans
blocks of runs over the steps and spreads them over the devices.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int, PyTree

from phenodl.compiler import QUICKLY
from phenodl.engine.blocks import (
    Span,
    advance_group,
    compiled,
    device_mesh,
    fresh_block,
    fresh_group,
    measure_block,
)
from phenodl.engine.packing import (
    everywhere,
    gather,
    order,
    own_share,
    pack,
    place,
    plain,
    processes,
    select,
    split,
    total,
    unpack,
)
from phenodl.engine.step import CONVERGED, DIVERGED, RUNNING, Program, TrainState
from phenodl.protocol import (
    Data,
    Hyper,
    Layout,
    Method,
    Objective,
    Params,
    Probe,
    Problem,
    StepInfo,
    Stop,
    Transform,
)
from phenodl.sweep import Runs

__all__ = [
    "CONVERGED",
    "DIVERGED",
    "RUNNING",
    "Chunk",
    "Record",
    "TrainState",
    "abstract_state",
    "from_optax",
    "train",
]

# Initial parameters are drawn once: without fused kernels that compiles in half of the time.
_FRESH_OPTIONS = (*QUICKLY, ("xla_cpu_use_fusion_emitters", False))
_WORTH_PACKING = 0.9  # share of the blocks that suffice for the runs that still train


class Chunk(NamedTuple):
    """What training hands over at the border of a chunk.

    Where several processes train on one mesh, each gets a chunk with the runs on its own devices.

    Attributes:
        axes: of the sweep, name to coordinates.
        id: of the runs that took part (had not ended before), in the order of the rows below.
        runs: how many took part in all processes; ``len(id)`` where there is one.
        running: how many of all runs go on.
        first_step: of this chunk. last_step: its end, exclusive. total_steps: where training ends.
        records: per probe, the measured steps and the values by name: (runs, steps, ...).
        status: of each run at the end; stopped_at: the step at which it ended, or -1.
        loss: of each run at the last step.
        seconds: that the steps took.
        state: ``state()`` gathers the whole state of *all* runs of this process, finished ones
            included, by id.
    """

    axes: dict[str, np.ndarray]
    id: Int[np.ndarray, " run"]
    runs: int
    running: int
    first_step: int
    last_step: int
    total_steps: int
    records: tuple["Record", ...]
    status: Int[np.ndarray, " run"]
    stopped_at: Int[np.ndarray, " run"]
    loss: Float[np.ndarray, " run"]
    seconds: float
    state: Callable[[], TrainState]


class Record(NamedTuple):
    """The measurements of one probe in one chunk: values by name, (runs, steps, ...)."""

    every: int
    emit: str
    steps: Int[np.ndarray, " step"]
    values: dict[str, np.ndarray]


def from_optax(transformation: Callable[[Hyper], optax.GradientTransformation]) -> Method:
    """An optax optimizer as a method.

    Args:
        transformation: builds the optimizer from a run's hyper-parameters, which are traced: any
            of them can be an axis of the sweep. Where its ``update`` takes more arguments it gets
            ``value``, ``grad`` and ``value_fn``, as optax's line searches want them.

    Example:
        >>> method = from_optax(lambda hyper: optax.adam(hyper["learning_rate"], b2=hyper["b2"]))
    """

    def init(params: Params, hyper: Hyper) -> PyTree:
        return transformation(hyper).init(params)

    def step(objective: Objective, params: Params, state: PyTree, hyper: Hyper):
        # optax raises floats to integer powers, and in a block divides (..., runs) by (runs,).
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            update, state = optax.with_extra_args_support(transformation(hyper)).update(
                objective.grads,
                state,
                params,
                value=objective.loss,
                grad=objective.grads,
                value_fn=objective.function,
            )
        return optax.apply_updates(params, update), state, StepInfo(update, jnp.ones(()))

    return Method(init, step)


def train(
    problem: Problem,
    method: Method,
    runs: Runs,
    *,
    steps: int,
    probes: Sequence[Probe] = (),
    transforms: Sequence[Transform] = (),
    stop: Stop | None = None,
    chunk: int | None = None,
    layout: Layout = Layout(),
    devices: Sequence[Any] | None = None,
    start: TrainState | None = None,
) -> Iterator[Chunk]:
    """Trains all runs to a number of steps, yielding at every chunk border.

    Args:
        problem: what is minimised.
        method: how the parameters move.
        runs: the sweep, from :func:`phenodl.sweep.product`.
        steps: the step at which training ends (also when it starts from a later state).
        probes: what is measured, see :mod:`phenodl.probes`.
        transforms: changes of the parameters made between steps, every few of them.
        stop: ``stop(view) -> bool``; a run ends, converged, at the first step where it holds.
        chunk: steps between two borders; rounded up to a multiple of every cadence. By default
            about a tenth of the steps, less where the records would not fit ``layout.memory``.
        layout: how runs lie in memory; part of a result's identity.
        devices: to spread the blocks over; all local ones by default. With ``jax.devices()`` after
            ``jax.distributed.initialize`` all processes train together on one mesh: each of them
            calls this with the same arguments and gets the chunks of its own runs. They meet at
            the borders of chunks alone.
        start: a state to go on from (``chunk.state()``), in place of fresh parameters. Its runs
            need not be all of ``runs``; hyper-parameters and data are taken from it. Several
            processes give the same whole state.

    Returns:
        An iterator over chunks that trains as it is drawn from. A run whose loss is NaN or infinite
        is diverged at that step: it keeps the parameters that gave that loss, and it does not
        disturb its neighbours.

    Raises:
        ValueError: ``steps``, ``chunk`` or a cadence is not positive; two probes record the same
            name; ``start`` belongs to another method or other probes, or holds runs that stand at
            different steps; ``devices`` are those of some of the processes.
    """
    numbers = {"steps": steps, "chunk": chunk, "width": layout.width, "blocks": layout.blocks}
    for name, number in numbers.items():
        if number is not None and not 1 <= number < 2**31:
            raise ValueError(f"{name} must be at least 1 and below 2**31, got {number}")
    cadences = [item.every for item in (*probes, *transforms)]
    if any(every < 1 for every in cadences):
        raise ValueError(f"every must be at least 1, got {min(cadences)}")
    if layout.run_axis not in (0, -1):
        raise ValueError(f"run_axis must be 0 or -1, got {layout.run_axis}")

    cadence = math.lcm(*cadences)
    key_impl = jax.random.key_impl(runs.key)
    mesh = device_mesh(devices)
    if len(processes(mesh)) not in (1, jax.process_count()):
        raise ValueError("devices must be those of this process, or of all processes")
    static = (method, tuple(probes), tuple(transforms), stop, key_impl, layout, mesh)
    program = Program(*problem[:3], *static)
    shared = place(dict(problem.data), mesh)
    rows = plain(runs)
    footprint = measure_block(program, shared, rows, cadence)
    length = _chunk_length(steps, cadence, chunk, layout.memory // (footprint.records or 1))
    if layout.blocks is None:
        block = footprint.state + footprint.records * length // cadence
        blocks = min(max(layout.memory // block, 1), 8)
        program = program._replace(layout=layout._replace(blocks=blocks))

    if start is None:
        fresh = compiled(fresh_group, ("program",), _FRESH_OPTIONS)
        finished, begin = (), 0
        groups = [fresh(program, group, shared) for group in pack(program, rows)]
    else:
        _require_fit(start, jax.eval_shape(functools.partial(fresh_block, program), rows, shared))
        ended, running = split(jax.tree.map(np.asarray, start))
        finished = (own_share(mesh, ended),)
        begin = _common_step(running, otherwise=steps)
        groups = pack(program, running)

    # Chunks are drawn later, perhaps outside of the caller's `with jax.enable_x64(...)`.
    precision = functools.partial(jax.enable_x64, jnp.zeros(()).dtype == np.float64)
    spans = _spans(begin, steps, length, cadence)
    return _chunks(program, shared, runs.axes, steps, finished, groups, spans, precision)


def _chunks(
    program: Program,
    shared: Data,
    axes: dict[str, np.ndarray],
    steps: int,
    finished: tuple[TrainState, ...],
    groups: list[TrainState],
    spans: Iterator[tuple[int, Span]],
    precision: Callable[[], contextlib.AbstractContextManager],
) -> Iterator[Chunk]:
    layout = program.layout
    advance = compiled(advance_group, ("program", "span"), layout.compiler_options)
    for begin, span in spans:
        if not groups:
            return
        clock = time.perf_counter()
        with precision():
            outputs = [advance(program, span, group, shared, np.int32(begin)) for group in groups]
        groups = [group for group, _ in outputs]
        ends = unpack([(group.id, group.status, group.stopped_at, group.loss) for group in groups])
        held = order(ends[0])
        # Runs that had ended before may still be held; what a chunk says does not depend on that.
        rows = held[~_ended(ends[2][held], begin)]
        ids, status, stopped_at, loss = select(ends, rows)
        values = select(unpack([records for _, records in outputs]), rows)
        counts = (len(held), len(rows), int(np.count_nonzero(status == RUNNING)))
        in_blocks, took_part, running = total(program.mesh, *counts)
        yield Chunk(
            axes=axes,
            id=ids,
            runs=took_part,
            running=running,
            first_step=begin,
            last_step=begin + span.count,
            total_steps=steps,
            records=_records(program.probes, values, stopped_at, begin, span),
            status=status,
            stopped_at=stopped_at,
            loss=loss,
            seconds=time.perf_counter() - clock,
            state=functools.partial(gather, finished, groups),
        )
        if running == 0:
            return
        needed, in_use = (math.ceil(count / layout.width) for count in (running, in_blocks))
        if needed <= _WORTH_PACKING * in_use:
            ended, rest = split(gather((), groups))
            finished = (*finished, ended)
            with precision():
                if len(processes(program.mesh)) > 1:
                    _, rest = split(gather((), everywhere(groups)))
                groups = pack(program, rest)


def _spans(begin: int, steps: int, length: int, cadence: int) -> Iterator[tuple[int, Span]]:
    """Chunks end at multiples of their length, whatever the step that training starts from."""
    while begin < steps:
        end = min(begin + length - begin % length, steps)
        yield begin, Span(end - begin, begin % cadence)
        begin = end


def _chunk_length(steps: int, cadence: int, chunk: int | None, cadences_in_memory: int) -> int:
    """Steps per chunk, a multiple of the cadence.

    By default some ten chunks, all of one length if the steps allow: a last chunk of another length
    is compiled a second time.
    """
    if chunk is not None:
        return cadence * math.ceil(chunk / cadence)
    longest = cadence * min(math.ceil(steps / 10 / cadence), max(cadences_in_memory, 1))
    even = [steps // count for count in range(10, 21) if steps % count == 0]
    return next((each for each in even if each % cadence == 0 and each <= longest), longest)


def _require_fit(start: TrainState, expected: TrainState) -> None:
    """A state can go on only under the problem, method and probes that it comes from."""
    for name in ("params", "method", "probes", "measured", "hyper", "data"):
        given, wanted = getattr(start, name), getattr(expected, name)
        if jax.tree.structure(given) != jax.tree.structure(wanted):
            raise ValueError(f"start.{name} does not fit: this training has another structure")


def abstract_state(
    problem: Problem,
    method: Method,
    runs: Runs,
    *,
    probes: Sequence[Probe] = (),
    layout: Layout = Layout(),
) -> TrainState:
    """Shapes and dtypes of what ``chunk.state()`` gives for the same arguments of :func:`train`."""
    key_impl = jax.random.key_impl(runs.key)
    program = Program(
        *problem[:3], method, tuple(probes), (), None, key_impl, layout, device_mesh(None)
    )
    fresh = functools.partial(fresh_block, program)
    return jax.eval_shape(fresh, plain(runs), dict(problem.data))


def _common_step(running: TrainState, otherwise: int) -> int:
    steps = np.unique(running.step)
    if steps.size > 1:
        raise ValueError(f"start holds runs that stand at different steps: {steps.tolist()}")
    return int(steps[0]) if steps.size else otherwise


def _ended(stopped_at: Int[np.ndarray, "..."], step: int | np.ndarray) -> Bool[np.ndarray, "..."]:
    """Whether runs had ended before a step."""
    return (stopped_at >= 0) & (stopped_at < step)


def _records(
    probes: Sequence[Probe],
    rows: Sequence[dict[str, np.ndarray]],
    stopped_at: Int[np.ndarray, " run"],
    begin: int,
    span: Span,
) -> tuple[Record, ...]:
    """What each probe measured, labelled; a run that has ended has no measurements after."""
    steps = np.arange(begin, begin + span.count)

    def label(probe: Probe, values: dict[str, np.ndarray]) -> Record:
        if probe.emit == "end":  # the state keeps the last values of a run that has ended
            return Record(probe.every, probe.emit, steps[-1:], values)
        chunk = probe.emit == "chunk"
        measured = steps[-1:] if chunk else steps[span.first(probe.every) :: probe.every]
        # A reducer's last value counts while its run took part in any step of the chunk.
        needed = steps[:1] if chunk else measured
        ended = _ended(stopped_at[:, None], needed)
        blanked = {name: _blank(value, ended) for name, value in values.items()}
        return Record(probe.every, probe.emit, measured, blanked)

    return tuple(label(*pair) for pair in zip(probes, rows, strict=True))


def _blank(values: np.ndarray, ended: Bool[np.ndarray, "run step"]) -> np.ndarray:
    """NaN where a run had ended; whole numbers become floats for it."""
    if ended.any():
        values = values.astype(np.result_type(values, np.float16))
        values[ended] = np.nan
    return values
