"""The nouns of the engine: what a problem, a method and a probe have to offer.

Each is a named tuple of pure functions, so that a user's own model, optimizer or measurement enters
the engine on equal terms with the bundled ones. The functions see *one* run; the engine batches
them over runs with ``jax.vmap``. With ``Layout(run_axis=-1)`` it calls all but ``Problem.init`` on
a whole block of runs instead, every array carrying the runs as its *last* axis: for tiny problems
(a 4 x 4 factorization) that is an order of magnitude faster on a CPU, because each operation then
fills the vector units.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

Params = PyTree[Float[Array, "..."]]
Hyper = Mapping[str, Float[Array, ""]]
Data = Mapping[str, PyTree]
LossFn = Callable[[Params], Float[Array, ""]]


def full_batch(data: Data, key: Key[Array, ""], step: Int[Array, ""]) -> Data:
    """The batch function of full-batch training: every step sees all the data."""
    del key, step
    return data


class Problem(NamedTuple):
    """What is minimised.

    Attributes:
        init: ``init(key, data, hyper) -> params``; draws the initial parameters of one run.
        loss: ``loss(params, batch) -> scalar``.
        batch: ``batch(data, key, step) -> batch``; the key is already folded with the step. (With
            ``run_axis=-1`` it is a block of keys.)
        data: named arrays that all runs share. An axis of the sweep may add to them, or replace
            one of them, per run (a mask, a target matrix); ``init`` and ``batch`` see the union.
    """

    init: Callable[[Key[Array, ""], Data, Hyper], Params]
    loss: Callable[[Params, Any], Float[Array, ""]]
    batch: Callable[[Data, Key[Array, ""], Int[Array, ""]], Any] = full_batch
    data: Data = MappingProxyType({})


class Objective(NamedTuple):
    """The loss on the batch of this step, evaluated at the current parameters.

    Attributes:
        function: the loss as a function of the parameters alone, for whoever needs it elsewhere
            (the inner stages of a Runge-Kutta step) or differentiates it again.
        loss: its value at the current parameters.
        grads: its gradient there, the one every method and probe shares.
        hvp: ``hvp(tangent)``, the Hessian at the current parameters times a tangent, from the same
            linearization that gave ``grads``; None unless a probe has asked for products.
    """

    function: LossFn
    loss: Float[Array, ""]
    grads: Params
    hvp: Callable[[Params], Params] | None = None


class StepInfo(NamedTuple):
    """What one step of a method did: ``update`` is new minus old parameters, ``dt`` its time."""

    update: Params
    dt: Float[Array, ""]


class Method(NamedTuple):
    """How the parameters move.

    Attributes:
        init: ``init(params, hyper) -> state``.
        step: ``step(objective, params, state, hyper) -> (params, state, StepInfo)``.
    """

    init: Callable[[Params, Hyper], PyTree]
    step: Callable[[Objective, Params, PyTree, Hyper], tuple[Params, PyTree, StepInfo]]


class View(NamedTuple):
    """What a probe sees of step t.

    ``params``, ``objective`` belong to the point θ_t *before* the update; ``method_state`` is the
    method's state *after* it has absorbed the gradient at θ_t (for Adam: v includes g_t²), and
    ``update`` is θ_{t+1} - θ_t, before any transform.
    """

    objective: Objective
    params: Params
    method_state: PyTree
    update: Params
    batch: Any
    step: Int[Array, ""]
    time: Float[Array, ""]
    hyper: Hyper


def no_state(key: Key[Array, ""], params: Params) -> tuple[()]:
    """The initial state of a probe that remembers nothing."""
    del key, params
    return ()


class Probe(NamedTuple):
    """A measurement taken inside the training loop.

    Attributes:
        measure: ``measure(state, view) -> (state, values)`` with ``values`` a dict of named arrays.
        init: ``init(key, params) -> state``: warm-start vectors, running extremes.
        every: measure at steps 0, every, 2 every, ...
        emit: ``"step"`` records each measurement, ``"chunk"`` the last one of every chunk, and
            ``"end"`` the last one of the whole training. The latter two are for reducers, whose
            full history would not fit.
        products: the probe calls ``view.objective.hvp``.
    """

    measure: Callable[[PyTree, View], tuple[PyTree, dict[str, Array]]]
    init: Callable[[Key[Array, ""], Params], PyTree] = no_state
    every: int = 1
    emit: Literal["step", "chunk", "end"] = "step"
    products: bool = False


class Transform(NamedTuple):
    """A change of the parameters between steps, made after every few of them.

    A symmetry of the loss that keeps the parameters well conditioned, a projection, a last
    refinement once the loss is small. Methods with a memory (momentum, Adam) do not see it: it is
    meant for gradient flows.

    Attributes:
        every: after how many steps.
        apply: ``apply(params, batch) -> params``, with the batch of the step just made.
    """

    every: int
    apply: Callable[[Params, Any], Params]


class Layout(NamedTuple):
    """How runs lie in memory. Width and compiler options decide rounding: they identify a result.

    Attributes:
        run_axis: 0, the functions see one run and are vmapped; -1, they see a block of runs along
            the last axis of every array.
        width: runs per block. The training step is compiled for exactly this many.
        blocks: blocks per device and call; None takes as many as ``memory`` allows, at most 8.
        memory: bytes per device that the blocks of one call may fill.
        compiler_options: pairs of XLA option and value, for the training step alone.
        one_kernel: compile the loop over the steps into one piece of machine code, see
            :func:`phenodl.compiler.one_kernel`.
        unroll: steps that the compiled loop takes at each turn.
    """

    run_axis: Literal[0, -1] = 0
    width: int = 8
    blocks: int | None = None
    memory: int = 2**30
    compiler_options: tuple[tuple[str, str | bool | int], ...] = ()
    one_kernel: bool = False
    unroll: int = 1


Stop = Callable[[View], Bool[Array, ""]]


def value_and_grad(function: LossFn) -> Callable[[Params], tuple[Float[Array, ""], Params]]:
    """Loss and gradient, for one run or for a block of runs along the last axis.

    Runs do not interact, so the gradient of the sum of a block's losses holds each run's own.
    """

    def total(params: Params) -> tuple[Float[Array, ""], Float[Array, ""]]:
        losses = function(params)
        return losses.sum(), losses

    def evaluate(params: Params) -> tuple[Float[Array, ""], Params]:
        (_, losses), grads = jax.value_and_grad(total, has_aux=True)(params)
        return losses, grads

    return evaluate
