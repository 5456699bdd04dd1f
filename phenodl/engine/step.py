"""One run, one step: evaluate the loss, let the method propose, let the probes look, move.

With ``run_axis`` -1 "one run" is a block of runs along the last axis of every array; the functions
here serve both, for a mask over runs broadcasts along the last axes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from phenodl import runs_last
from phenodl.curvature.products import linearize
from phenodl.protocol import (
    Data,
    Layout,
    LossFn,
    Method,
    Objective,
    Params,
    Probe,
    Stop,
    Transform,
    View,
    value_and_grad,
)

RUNNING, CONVERGED, DIVERGED = range(3)
"""A run's status: still training; ended by ``stop``; ended by a loss that is NaN or infinite."""

INIT, BATCH, PROBE = range(3)  # what a run's key is folded with, so that its three streams differ


class TrainState(NamedTuple):
    """All there is to know about runs between two steps; every leaf has the runs on one axis.

    This one pytree is what is checkpointed, compacted by ``id`` and branched from.
    """

    id: Int[Array, " run"]
    key: Array  # raw key data: plain integers can be checkpointed, padded and sent anywhere
    hyper: dict[str, Array]
    data: dict[str, PyTree]
    params: Params
    method: PyTree
    probes: tuple[PyTree, ...]
    measured: tuple[dict[str, Array], ...]  # the last values of each probe
    step: Int[Array, " run"]
    time: Float[Array, " run"]
    loss: Float[Array, " run"]
    status: Int[Array, " run"]
    stopped_at: Int[Array, " run"]


class Program(NamedTuple):
    """Everything static about the compiled step: equal programs share one compilation.

    ``init``, ``loss`` and ``batch`` are the problem's; its data are not static and travel apart.
    """

    init: Callable[..., Params]
    loss: Callable[..., Array]
    batch: Callable[..., Any]
    method: Method
    probes: tuple[Probe, ...]
    transforms: tuple[Transform, ...]
    stop: Stop | None
    key_impl: Any
    layout: Layout
    mesh: Mesh


def complete(program: Program, shared: Data, state: TrainState) -> TrainState:
    """Adds to freshly drawn parameters what method and probes start from."""
    keys = fold_in(state.key, PROBE)
    probes = tuple(
        probe.init(fold_in(keys, number), state.params)
        for number, probe in enumerate(program.probes)
    )
    method = program.method.init(state.params, state.hyper)
    method, probes = _per_run((method, probes), state.id.shape)
    state = state._replace(method=method, probes=probes)

    def look(state: TrainState):
        view, _, _ = _propose(program, shared, state, jnp.zeros((), state.step.dtype))
        seen = _with_products(view) if any(probe.products for probe in program.probes) else view
        pairs = zip(program.probes, state.probes, strict=True)
        return view.objective.loss, tuple(_look(probe, own, seen)[1] for probe, own in pairs)

    loss, measured = jax.tree.map(unmeasured, jax.eval_shape(look, state))
    return state._replace(loss=loss, measured=measured)


def advance(program: Program, shared: Data, state: TrainState, step: Array) -> TrainState:
    """One step: evaluate, propose, measure, and move unless the run ends here."""
    view, params, dt = _propose(program, shared, state, step)
    probes, measured = _measure(program, state, view, step)
    for transform in program.transforms:
        due = (step + 1) % transform.every == 0
        params = jax.lax.cond(due, transform.apply, lambda same, _: same, params, view.batch)

    loss = view.objective.loss
    alive = active(state)
    finite = jnp.isfinite(loss)
    done = jnp.zeros_like(alive) if program.stop is None else program.stop(view)
    moving = alive & finite & ~done
    ending = jnp.where(finite, CONVERGED, DIVERGED).astype(state.status.dtype)
    return state._replace(
        params=runs_last.where(moving, params, state.params),
        method=runs_last.where(moving, view.method_state, state.method),
        probes=runs_last.where(alive, probes, state.probes),
        measured=runs_last.where(alive, measured, state.measured),
        step=state.step + moving.astype(state.step.dtype),
        time=state.time + jnp.where(moving, dt, jnp.zeros_like(dt)).astype(state.time.dtype),
        loss=jnp.where(alive, loss, state.loss),
        status=jnp.where(alive & ~moving, ending, state.status),
        stopped_at=jnp.where(alive & ~moving, step, state.stopped_at),
    )


def _propose(
    program: Program, shared: Data, state: TrainState, step: Array
) -> tuple[View, Params, Array]:
    """Evaluates the loss where the run stands and lets the method propose where it goes."""
    batch_key = fold_in(fold_in(state.key, BATCH), step)
    batch = program.batch({**shared, **state.data}, batch_key, step)
    every_step = any(probe.products and probe.every == 1 for probe in program.probes)
    objective = _objective(lambda params: program.loss(params, batch), state.params, every_step)
    params, method, info = program.method.step(objective, state.params, state.method, state.hyper)
    view = View(objective, state.params, method, info.update, batch, step, state.time, state.hyper)
    return view, params, info.dt


def _objective(function: LossFn, params: Params, products: bool) -> Objective:
    if products:
        return Objective(function, *linearize(function, params))
    return Objective(function, *value_and_grad(function)(params))


def _measure(
    program: Program, state: TrainState, view: View, step: Array
) -> tuple[tuple[PyTree, ...], tuple[dict[str, Array], ...]]:
    """Lets the probes look whose turn has come; others keep their state and last values."""
    looks = list(zip(state.probes, state.measured, strict=True))
    for every in sorted({probe.every for probe in program.probes}):
        turn = [place for place, probe in enumerate(program.probes) if probe.every == every]

        def look(before: list, turn: list[int] = turn) -> list:
            products = any(program.probes[place].products for place in turn)
            seen = _with_products(view) if products else view
            states = [own for own, _ in before]
            return [
                _look(program.probes[at], own, seen) for at, own in zip(turn, states, strict=True)
            ]

        before = [looks[place] for place in turn]
        # The predicate is the same for all runs, so that vmap keeps a true branch.
        due = step % every == 0
        after = look(before) if every == 1 else jax.lax.cond(due, look, lambda same: same, before)
        for place, pair in zip(turn, after, strict=True):
            looks[place] = pair
    return tuple(own for own, _ in looks), tuple(values for _, values in looks)


def _with_products(view: View) -> View:
    """The view with Hessian products, linearized here unless the step has done so."""
    if view.objective.hvp is not None:
        return view
    objective = _objective(view.objective.function, view.params, products=True)
    return view._replace(objective=objective)


def _look(probe: Probe, own: PyTree, view: View) -> tuple[PyTree, dict[str, Array]]:
    return _per_run(probe.measure(own, view), view.objective.loss.shape)


def fold_in(key: Array, number: Int[Array, ""] | int) -> Array:
    """Folds a number into one key, or into each key of a block."""
    fold = jax.random.fold_in
    return fold(key, number) if key.ndim == 0 else jax.vmap(fold, in_axes=(0, None))(key, number)


def active(state: TrainState) -> Bool[Array, "*run"]:
    """Runs that still train; padding never does."""
    return (state.status == RUNNING) & (state.id >= 0)


def _per_run(tree: PyTree, shape: tuple[int, ...]) -> PyTree:
    """Gives each run of a block its own copy of what is one count for all.

    Raises:
        ValueError: a floating number without the block's runs, which must have come of all of them.
    """

    def spread(leaf: Array) -> Array:
        if leaf.ndim or not shape:
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                "with Layout(run_axis=-1) a method or probe gave one number for a whole block of"
                " runs: it mixes them; let it keep the last axis, or use run_axis=0"
            )
        return jnp.broadcast_to(leaf, shape)

    return jax.tree.map(spread, tree)


def unmeasured(leaf: jax.ShapeDtypeStruct) -> Array:
    """An array for a measurement that was not taken: NaN, or 0 where the dtype has none."""
    fill = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 0
    return jnp.full(leaf.shape, fill, leaf.dtype)
