"""Blocks of runs: the compiled program that trains them, of one shape whatever the sweep.

A block holds a fixed number of runs, a group a fixed number of blocks per device; one call moves a
group through a chunk of steps. Rounding is decided by the compiled shape, so that a run has the
same bits whatever else is in the sweep.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

from phenodl.compiler import one_kernel
from phenodl.engine.step import (
    INIT,
    RUNNING,
    Program,
    TrainState,
    active,
    advance,
    complete,
    fold_in,
    unmeasured,
)
from phenodl.protocol import Data, Hyper, Params, Probe
from phenodl.sweep import RESERVED, Runs


def fresh_block(program: Program, runs: Runs, shared: Data) -> TrainState:
    """The state of a block of runs before its first step; ``runs`` as rows without axes."""

    def draw(key: Array, data: Data, hyper: Hyper) -> Params:
        return program.init(fold_in(key, INIT), {**shared, **data}, hyper)

    keys = jax.random.wrap_key_data(runs.key, impl=program.key_impl)
    zero = jnp.zeros_like(runs.id)
    state = TrainState(
        id=jnp.asarray(runs.id),
        key=runs.key,
        hyper=runs.hyper,
        data=runs.data,
        params=jax.vmap(draw)(keys, runs.data, runs.hyper),
        method=(),
        probes=(),
        measured=(),
        step=zero,
        time=zero.astype(jnp.zeros(()).dtype),
        loss=zero,
        status=jnp.full_like(zero, RUNNING),
        stopped_at=zero - 1,
    )
    finish = functools.partial(complete, program, shared)
    finish = jax.vmap(finish) if program.layout.run_axis == 0 else finish
    return _leave(program, finish(_enter(program, state)))


class Span(NamedTuple):
    """The static part of a chunk: how many steps, and where they lie relative to the cadences.

    ``phase`` is the first step modulo the probes' common cadence: almost always 0.
    """

    count: int
    phase: int = 0

    def first(self, every: int) -> int:
        """The place in the chunk of the first step that a cadence falls on."""
        return -self.phase % every


def advance_block(
    program: Program, span: Span, state: TrainState, shared: Data, begin: Array
) -> tuple[TrainState, tuple[dict[str, Array], ...]]:
    """Scans a block over the steps of a chunk; returns its state and (runs, steps, ...) records."""
    move = functools.partial(advance, program, shared)
    if program.layout.run_axis == 0:
        move = jax.vmap(move, in_axes=(0, None))

    def body(state: TrainState, step: Array):
        state = move(state, step)
        pairs = zip(program.probes, state.measured, strict=True)
        return state, tuple(values if probe.emit == "step" else {} for probe, values in pairs)

    steps = begin + jnp.arange(span.count, dtype=begin.dtype)
    scan = functools.partial(jax.lax.scan, body, unroll=program.layout.unroll)
    scan = one_kernel(scan) if program.layout.one_kernel else scan
    state, history = scan(_enter(program, state), steps)
    state = _leave(program, state)

    def record(probe: Probe, values: dict[str, Array], last: dict[str, Array]) -> dict[str, Array]:
        if probe.emit != "step":
            return jax.tree.map(lambda leaf: leaf[:, None], last)
        measured = slice(span.first(probe.every), None, probe.every)
        run_axis = 1 if program.layout.run_axis == 0 else -1
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf[measured], run_axis, 0), values)

    parts = zip(program.probes, history, state.measured, strict=True)
    return state, tuple(record(*part) for part in parts)


def _enter(program: Program, state: TrainState) -> TrainState:
    """From the layout of storage (runs first, raw keys) to that of the callbacks."""
    state = state._replace(key=jax.random.wrap_key_data(state.key, impl=program.key_impl))
    return state if program.layout.run_axis == 0 else _move_runs(state, 0, -1)


def _leave(program: Program, state: TrainState) -> TrainState:
    state = state if program.layout.run_axis == 0 else _move_runs(state, -1, 0)
    return state._replace(key=jax.random.key_data(state.key))


def _move_runs(state: TrainState, source: int, destination: int) -> TrainState:
    return jax.tree.map(
        lambda leaf: leaf if leaf.ndim == 1 else jnp.moveaxis(leaf, source, destination), state
    )


def device_mesh(devices: Sequence[Any] | None) -> Mesh:
    """One mesh axis over these devices, or over all local ones."""
    devices = jax.local_devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), ("device",), (AxisType.Auto,), devices=devices)


def _map_blocks(program: Program, function: Callable[..., PyTree], blocks: PyTree, *shared: Any):
    """Maps over blocks, leaves (devices, blocks, width, ...), one after another on each device."""

    def on_device(local: PyTree, *shared: Any) -> PyTree:
        outputs = jax.lax.map(
            lambda block: function(block, *shared), jax.tree.map(lambda leaf: leaf[0], local)
        )
        return jax.tree.map(lambda leaf: leaf[None], outputs)

    specs = (P("device"), *(P() for _ in shared))
    mapped = jax.shard_map(
        on_device, mesh=program.mesh, in_specs=specs, out_specs=P("device"), check_vma=False
    )
    return mapped(blocks, *shared)


def fresh_group(program: Program, runs: Runs, shared: Data) -> TrainState:
    """The states of a group of blocks before their first step."""
    return _map_blocks(program, functools.partial(fresh_block, program), runs, shared)


def advance_group(
    program: Program, span: Span, group: TrainState, shared: Data, begin: Array
) -> tuple[TrainState, tuple[dict[str, Array], ...]]:
    """Moves a group of blocks through the steps of a chunk that starts at ``begin``."""
    run = functools.partial(advance_block, program, span)

    def block(state: TrainState, *shared: Any):
        # Blocks that hold padding alone cost nothing, so that the program's shape need not follow
        # the number of runs.
        _, records = jax.eval_shape(run, state, *shared)
        skipped = lambda state, *_: (state, jax.tree.map(unmeasured, records))
        return jax.lax.cond(jnp.any(active(state)), run, skipped, state, *shared)

    return _map_blocks(program, block, group, shared, begin)


@functools.lru_cache
def compiled(
    function: Callable[..., PyTree], static: tuple[str, ...], options: tuple = ()
) -> Callable[..., PyTree]:
    """The jitted function, one and the same for equal arguments, so that its cache is shared."""
    return jax.jit(function, static_argnames=static, compiler_options=dict(options) or None)


class Footprint(NamedTuple):
    """What a block of runs takes: bytes of its state, and of its records per cadence of steps."""

    state: int
    records: int


def measure_block(program: Program, shared: Data, rows: Runs, cadence: int) -> Footprint:
    """Evaluates a block abstractly, without compiling it.

    Raises:
        ValueError: two probes record the same name, or a reserved one.
    """
    block = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((program.layout.width, *leaf.shape[1:]), leaf.dtype), rows
    )
    state = jax.eval_shape(functools.partial(fresh_block, program), block, shared)
    advance_cadence = functools.partial(advance_block, program, Span(cadence))
    step = jax.ShapeDtypeStruct((), state.step.dtype)
    _, records = jax.eval_shape(advance_cadence, state, shared, step)

    names = [name for values in records for name in values]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two probes record {repeated[0]!r}; names must differ")
    taken = sorted(set(RESERVED).intersection(names))
    if taken:
        raise ValueError(f"a probe records {taken[0]!r}, a name that results have for themselves")
    return Footprint(_bytes(state), _bytes(records))


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
