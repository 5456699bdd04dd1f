"""What is measured of Adam on θ²/2 while it trains.

The Hessian is 1, so the preconditioned curvature is the momentum factor times the preconditioner.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from phenodl.optim import adam
from phenodl.protocol import Params, Probe, View
from phenodl.spikes import curvatures

HIGH = 100.0
"""A rise of the loss by this factor, two decades, is a spike."""

TINY = 1e-300
"""Losses below this are taken as this: squares of small numbers have underflowed."""


def _curvature(view: View) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The preconditioned curvature of a loss with Hessian 1, and its threshold."""
    settings = adam.from_hyper(view.hyper)
    now = curvatures.snapshot(view.method_state, settings, view.objective.grads)
    return now.factor * now.diagonal, now.threshold


def stability_probe() -> Probe:
    """Records v as ``second_moment``, the preconditioned ``curvature`` and its ``threshold``."""

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        curvature, threshold = _curvature(view)
        second_moment = jnp.asarray(adam.adam_state(view.method_state).nu)
        return state, {
            "second_moment": second_moment,
            "curvature": curvature,
            "threshold": threshold,
        }

    return Probe(measure)


class Extremes(NamedTuple):
    """What ``extremes_probe`` remembers of a run; steps are -1 until they come.

    Attributes:
        age: steps in the current window.
        highest: loss in the current window.
        level: highest loss of the last complete window.
        floor: the lowest of the highest losses of all complete windows.
        rise: the largest ratio of the loss to the floor below it.
        above: whether the curvature was above its threshold.
        crossings: how often it rose above.
        first_crossing: the step at which it first did.
        first_spike: the step at which the rise first reached two decades.
    """

    age: Int[Array, ""]
    highest: Float[Array, ""]
    level: Float[Array, ""]
    floor: Float[Array, ""]
    rise: Float[Array, ""]
    above: Bool[Array, ""]
    crossings: Int[Array, ""]
    first_crossing: Int[Array, ""]
    first_spike: Int[Array, ""]


def extremes_probe() -> Probe:
    """Reduces a run to its highest spike and its crossings, of which it emits the latest state.

    The height of a spike is the ratio of the loss to the floor before it. The floor is the running
    minimum of the *highest* loss of consecutive windows of 2 / (1 - b1) steps, for with momentum θ
    swings through zero, and a loss that dips there and returns has not spiked.
    """

    def init(key: Key[Array, ""], params: Params) -> Extremes:
        del key
        zero, none = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
        number = jnp.zeros_like(params)
        infinite, one = number + jnp.inf, number + 1
        return Extremes(zero, number, number, infinite, one, zero.astype(bool), zero, none, none)

    def measure(last: Extremes, view: View) -> tuple[Extremes, dict[str, Array]]:
        curvature, threshold = _curvature(view)
        above = curvature > threshold
        loss = jnp.maximum(view.objective.loss, TINY)
        full = last.age >= jnp.round(2 / (1 - view.hyper["b1"])).astype(last.age.dtype)
        floor = jnp.where(full, jnp.minimum(last.floor, last.highest), last.floor)
        rise = jnp.maximum(last.rise, loss / floor)

        def first(step: Array, happens: Array) -> Array:
            return jnp.where((step < 0) & happens, view.step, step)

        state = Extremes(
            age=jnp.where(full, 1, last.age + 1),
            highest=jnp.where(full, loss, jnp.maximum(last.highest, loss)),
            level=jnp.where(full, last.highest, last.level),
            floor=floor,
            rise=rise,
            above=above,
            crossings=last.crossings + (above & ~last.above).astype(last.crossings.dtype),
            first_crossing=first(last.first_crossing, above),
            first_spike=first(last.first_spike, rise >= HIGH),
        )
        names = ("level", "rise", "crossings", "first_crossing", "first_spike")
        values = {name: getattr(state, name) for name in names}
        return state, values | {"loss": view.objective.loss}

    return Probe(measure, init=init, emit="chunk")
