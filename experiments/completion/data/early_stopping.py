"""Training to the minimum of a held-out error: a method that watches it, and when to give up."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from phenodl.protocol import Hyper, Method, Objective, Params, Stop, View

HeldOutError = Callable[[Params], Float[Array, ""]]

_LOWER = 1 - 1e-4  # a minimum counts if it is lower by this factor: tails crawl
_FEWEST = 50
"""Steps that are always waited, for a small start stands still at first."""


class Watched(NamedTuple):
    """The state of a watched method.

    Attributes:
        method: the state of the method itself.
        least: the least held-out error so far.
        least_step: the step at which it was measured.
        step: of the last measurement.
    """

    method: PyTree
    least: Float[Array, ""]
    least_step: Int[Array, ""]
    step: Int[Array, ""]


def watched(method: Method, error: HeldOutError) -> Method:
    """The method, with the least held-out error kept in its state."""

    def init(params: Params, hyper: Hyper) -> Watched:
        start = jnp.array(jnp.inf, error(params).dtype)
        return Watched(method.init(params, hyper), start, jnp.array(0), jnp.array(-1))

    def step(objective: Objective, params: Params, state: Watched, hyper: Hyper):
        moved, inner, info = method.step(objective, params, state.method, hyper)
        now, here = error(params), state.step + 1
        lower = now < _LOWER * state.least
        least = jnp.where(lower, now, state.least)
        return moved, Watched(inner, least, jnp.where(lower, here, state.least_step), here), info

    return Method(init, step)


def at_least_error(view: View) -> Array:
    """Whether the parameters of this step have the least held-out error so far."""
    return view.method_state.least_step == view.method_state.step


def patience(times: float) -> Stop:
    """Ends a run when its held-out minimum has not fallen for a multiple of the steps to it.

    Later modes of a factorization appear at times that are multiples of those of earlier ones, so
    that the patience grows with the time.
    """

    def stop(view: View) -> Array:
        _, _, found, now = view.method_state
        longest = jnp.maximum(times * found.astype(view.time.dtype), float(_FEWEST))
        return (now - found).astype(view.time.dtype) >= longest

    return stop
