"""The engine's public face: trains a batch of runs in jitted chunks and measures inside the loop.

`train` is a Python loop over chunks of steps. It looks in at their borders alone, where results are
written, state is checkpointed and finished runs are dropped. What happens inside a chunk is
compiled: :mod:`phenodl.engine.step` moves one run by one step, :mod:`phenodl.engine.blocks` scans
blocks of runs over the steps and spreads them over the devices.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, PyTree

from phenodl.engine.blocks import (
    advance_group,
    compiled,
    device_mesh,
    fit_blocks,
    fresh_block,
    fresh_group,
)
from phenodl.engine.packing import gather, order, pack, plain, select, split, unpack
from phenodl.engine.step import CONVERGED, DIVERGED, RUNNING, Program, TrainState
from phenodl.protocol import (
    Hyper,
    Layout,
    Method,
    Objective,
    Params,
    Probe,
    Problem,
    StepInfo,
    Stop,
    Symmetry,
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


class Chunk(NamedTuple):
    """What training hands over at the border of a chunk.

    Attributes:
        axes: of the sweep, name to coordinates.
        id: of the runs that took part, in the order of the rows below.
        first_step: of this chunk. last_step: its end, exclusive. total_steps: where training ends.
        records: per probe, the measured steps and the values by name: (runs, steps, ...).
        status: of each run at the end; stopped_at: the step at which it ended, or -1.
        loss: of each run at the last step.
        seconds: that the steps took.
        state: ``state()`` gathers the whole state of *all* runs, finished ones included, by id.
    """

    axes: dict[str, np.ndarray]
    id: Int[np.ndarray, " run"]
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
            of them can be an axis of the sweep.

    Example:
        >>> method = from_optax(lambda hyper: optax.adam(hyper["learning_rate"], b2=hyper["b2"]))
    """

    def init(params: Params, hyper: Hyper) -> PyTree:
        return transformation(hyper).init(params)

    def step(objective: Objective, params: Params, state: PyTree, hyper: Hyper):
        # optax raises floats to integer powers, and in a block divides (..., runs) by (runs,).
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            update, state = transformation(hyper).update(objective.grads, state, params)
        return optax.apply_updates(params, update), state, StepInfo(update, jnp.ones(()))

    return Method(init, step)


def train(
    problem: Problem,
    method: Method,
    runs: Runs,
    *,
    steps: int,
    probes: Sequence[Probe] = (),
    symmetries: Sequence[Symmetry] = (),
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
        symmetries: transformations applied to the parameters every few steps.
        stop: ``stop(view) -> bool``; a run ends, converged, at the first step where it holds.
        chunk: steps between two borders; rounded up to a multiple of every cadence. By default
            a tenth of the steps.
        layout: how runs lie in memory; part of a result's identity.
        devices: to spread the blocks over; all local ones by default.
        start: a state to go on from (``chunk.state()``), in place of fresh parameters. Its runs
            need not be all of ``runs``; hyper-parameters and data are taken from it.

    Yields:
        One :class:`Chunk` per chunk. A run whose loss is NaN or infinite is diverged at that step:
        it keeps the parameters that gave that loss and does not disturb its neighbours.

    Raises:
        ValueError: ``steps``, ``chunk`` or a cadence is not positive; ``start`` holds runs that
            stand at different steps.
    """
    numbers = {"steps": steps, "chunk": chunk, "width": layout.width, "blocks": layout.blocks}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    cadences = [item.every for item in (*probes, *symmetries)]
    if any(every < 1 for every in cadences):
        raise ValueError(f"every must be at least 1, got {min(cadences)}")
    cadence = math.lcm(*cadences)
    length = cadence * math.ceil((chunk or math.ceil(steps / 10)) / cadence)

    key_impl = jax.random.key_impl(runs.key)
    program = Program(
        *problem[:3],
        method,
        tuple(probes),
        tuple(symmetries),
        stop,
        key_impl,
        layout,
        device_mesh(devices),
    )
    shared = jax.device_put(dict(problem.data), NamedSharding(program.mesh, P()))
    rows = plain(runs)
    program = program._replace(layout=fit_blocks(program, shared, rows, length))

    if start is None:
        fresh = compiled(fresh_group, ("program",))
        finished, origin = None, 0
        groups = [fresh(program, group, shared) for group in pack(program, rows)]
    else:
        finished, running = split(jax.tree.map(np.asarray, start))
        origin = _common_step(running, otherwise=steps)
        groups = pack(program, running)

    advance = compiled(advance_group, ("program", "count"), layout.compiler_options)
    for begin in range(origin, steps, length):
        clock = time.perf_counter()
        count = min(length, steps - begin)
        bounds = np.int32(begin), np.int32(origin)
        outputs = [advance(program, count, group, shared, *bounds) for group in groups]
        groups = [group for group, _ in outputs]
        ends = unpack([(group.id, group.status, group.stopped_at, group.loss) for group in groups])
        ids, status, stopped_at, loss = select(ends, order(ends[0]))
        records = [records for _, records in outputs]
        yield Chunk(
            axes=runs.axes,
            id=ids,
            first_step=begin,
            last_step=begin + count,
            total_steps=steps,
            records=_records(program, groups, records, np.arange(begin, begin + count)),
            status=status,
            stopped_at=stopped_at,
            loss=loss,
            seconds=time.perf_counter() - clock,
            state=functools.partial(gather, finished, groups),
        )
        running = np.count_nonzero(status == RUNNING)
        if running == 0:
            return
        if math.ceil(running / layout.width) < math.ceil(len(ids) / layout.width):
            finished, rest = split(gather(finished, groups))
            groups = pack(program, rest)


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


def _records(
    program: Program,
    groups: Sequence[TrainState],
    records: Sequence[tuple[dict[str, Array], ...]],
    steps: Int[np.ndarray, " step"],
) -> tuple[Record, ...]:
    """The probes' records as rows of runs; a run that has ended has no measurements after."""
    rows = unpack([(group.id, group.stopped_at) for group in groups])
    by_id = order(rows[0])
    stopped_at = rows[1][by_id]

    def label(probe: Probe, values: dict[str, np.ndarray]) -> Record:
        measured = steps[-1:] if probe.emit == "chunk" else steps[:: probe.every]
        # A reducer's last value counts while its run took part in any step of the chunk.
        needed = steps[:1] if probe.emit == "chunk" else measured
        ended = (stopped_at[:, None] >= 0) & (stopped_at[:, None] < needed)
        blanked = {name: _blank(value, ended) for name, value in values.items()}
        return Record(probe.every, probe.emit, measured, blanked)

    values = select(unpack(records), by_id)
    return tuple(label(*pair) for pair in zip(program.probes, values, strict=True))


def _blank(values: np.ndarray, ended: Bool[np.ndarray, "run step"]) -> np.ndarray:
    """NaN where a run had ended; whole numbers become floats for it."""
    if ended.any():
        values = values.astype(np.result_type(values, np.float16))
        values[ended] = np.nan
    return values
