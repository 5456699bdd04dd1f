"""Training to the minimum of a held-out error: a method that watches it, and when to give up."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from phenodl.protocol import Hyper, Method, Objective, Params, Stop, View

HeldOutError = Callable[[Params], Float[Array, ""]]

_LOWER = 1 - 1e-4  # a minimum counts if it is lower by this factor: tails crawl
_FALLEN = 0.99
"""Something is learned once the held-out error is below this share of that of the start."""
_FITTED = 1e-4
"""The training entries are fitted once their loss is below this share of that of the start."""


class Watched(NamedTuple):
    """The state of a watched method.

    Attributes:
        method: the state of the method itself.
        least: the least held-out error so far.
        least_step: the step at which it was measured.
        step: of the last measurement.
        first: the held-out error at the start.
        first_loss: the loss on the training entries there.
    """

    method: PyTree
    least: Float[Array, ""]
    least_step: Int[Array, ""]
    step: Int[Array, ""]
    first: Float[Array, ""]
    first_loss: Float[Array, ""]


def watched(method: Method, error: HeldOutError) -> Method:
    """The method, with the least held-out error kept in its state."""

    def init(params: Params, hyper: Hyper) -> Watched:
        unknown = jnp.array(jnp.inf, error(params).dtype)
        inner = method.init(params, hyper)
        return Watched(inner, unknown, jnp.array(0), jnp.array(-1), unknown, unknown)

    def step(objective: Objective, params: Params, state: Watched, hyper: Hyper):
        moved, inner, info = method.step(objective, params, state.method, hyper)
        now, here = error(params), state.step + 1
        lower = now < _LOWER * state.least
        watch = Watched(
            inner,
            least=jnp.where(lower, now, state.least),
            least_step=jnp.where(lower, here, state.least_step),
            step=here,
            first=jnp.where(here == 0, now, state.first),
            first_loss=jnp.where(here == 0, objective.loss, state.first_loss),
        )
        return moved, watch, info

    return Method(init, step)


def at_least_error(view: View) -> Array:
    """Whether the parameters of this step have the least held-out error so far."""
    return view.method_state.least_step == view.method_state.step


def patience(times: float) -> Stop:
    """Ends a run when its held-out minimum has not fallen for a multiple of the steps to it.

    Later modes of a factorization appear at times that are multiples of those of earlier ones, so
    that the patience grows with the time. A small start stands still at first, for as long as it is
    small: the patience begins when the error has fallen clearly. A run of which it never does ends
    when its training entries are fitted.
    """

    def stop(view: View) -> Array:
        watch = view.method_state
        found = watch.least_step.astype(view.time.dtype)
        waited = watch.step.astype(view.time.dtype) - found
        learned = watch.least < _FALLEN * watch.first
        fitted = view.objective.loss < _FITTED * watch.first_loss
        return jnp.where(learned, waited >= times * found, fitted)

    return stop
