"""Blocks of runs: the compiled program that trains them, of one shape whatever the sweep.

A block holds a fixed number of runs, a group a fixed number of blocks per device; one call moves a
group through a chunk of steps. Rounding is decided by the compiled shape, so that a run has the
same bits whatever else is in the sweep.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

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
from phenodl.protocol import Data, Hyper, Layout, Params
from phenodl.sweep import Runs


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


def advance_block(
    program: Program, count: int, state: TrainState, shared: Data, begin: Array, origin: Array
) -> tuple[TrainState, tuple[dict[str, Array], ...]]:
    """Scans a block over the steps of a chunk; returns its state and (runs, steps, ...) records."""
    move = functools.partial(advance, program, shared)
    if program.layout.run_axis == 0:
        move = jax.vmap(move, in_axes=(0, None, None))

    def body(state: TrainState, step: Array):
        state = move(state, step, origin)
        pairs = zip(program.probes, state.measured, strict=True)
        return state, tuple(values if probe.emit == "step" else {} for probe, values in pairs)

    steps = begin + jnp.arange(count, dtype=begin.dtype)
    state, history = jax.lax.scan(body, _enter(program, state), steps)
    state = _leave(program, state)

    run_axis = 1 if program.layout.run_axis == 0 else -1
    records = tuple(
        jax.tree.map(
            lambda leaf, every=probe.every: jnp.moveaxis(leaf[::every], run_axis, 0), values
        )
        if probe.emit == "step"
        else jax.tree.map(lambda leaf: leaf[:, None], last)
        for probe, values, last in zip(program.probes, history, state.measured, strict=True)
    )
    return state, records


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
    program: Program, count: int, group: TrainState, shared: Data, begin: Array, origin: Array
) -> tuple[TrainState, tuple[dict[str, Array], ...]]:
    """Moves a group of blocks by ``count`` steps from ``begin``."""
    run = functools.partial(advance_block, program, count)

    def block(state: TrainState, *shared: Any):
        # Blocks that hold padding alone cost nothing, so that the program's shape need not follow
        # the number of runs.
        _, records = jax.eval_shape(run, state, *shared)
        skipped = lambda state, *_: (state, jax.tree.map(unmeasured, records))
        return jax.lax.cond(jnp.any(active(state)), run, skipped, state, *shared)

    return _map_blocks(program, block, group, shared, begin, origin)


@functools.lru_cache
def compiled(
    function: Callable[..., PyTree], static: tuple[str, ...], options: tuple = ()
) -> Callable[..., PyTree]:
    """The jitted function, one and the same for equal arguments, so that its cache is shared."""
    return jax.jit(function, static_argnames=static, compiler_options=dict(options) or None)


def fit_blocks(program: Program, shared: Data, rows: Runs, count: int) -> Layout:
    """Settles how many blocks one call moves, and checks what the probes record."""
    layout = program.layout
    block = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((layout.width, *leaf.shape[1:]), leaf.dtype), rows
    )
    state = jax.eval_shape(functools.partial(fresh_block, program), block, shared)
    step = jax.ShapeDtypeStruct((), state.step.dtype)
    advance = functools.partial(advance_block, program, count)
    _, records = jax.eval_shape(advance, state, shared, step, step)

    names = [name for values in records for name in values]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"two probes record {repeated[0]!r}; names must differ")
    if layout.blocks is not None:
        return layout
    leaves = jax.tree.leaves((state, records))
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    return layout._replace(blocks=min(max(layout.memory // size, 1), 8))
