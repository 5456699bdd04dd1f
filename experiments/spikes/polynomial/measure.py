"""What is measured of Adam on θ^p / p while it trains: g and v, and when they go together."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from phenodl.optim import adam
from phenodl.protocol import Params, Probe, View

APART = 0.01
"""g² under this share of v for all of 2/(1 - β1) steps: the two have decoupled."""

TOGETHER = 0.1
"""g² above this share of v: the two are coupled (again)."""

TINY = 1e-250
"""Second moments below this are about to leave the numbers."""


def _second_moment(view: View) -> Float[Array, ""]:
    return jnp.asarray(adam.adam_state(view.method_state).nu)


def exhausted(view: View) -> Bool[Array, ""]:
    """Whether v has become too small to go on."""
    return _second_moment(view) < TINY


def moments_probe(every: int = 1) -> Probe:
    """Records g as ``gradient`` and v as ``second_moment``."""

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        moments = {"gradient": view.objective.grads, "second_moment": _second_moment(view)}
        return state, moments

    return Probe(measure, every=every)


class Coupling(NamedTuple):
    """What ``coupling_probe`` remembers of a run.

    Attributes:
        age: steps in the current window.
        highest: the highest g²/v of the current window.
        apart: the two have decoupled, and have not come together since.
        returns: how often they came together again.
        coupled_at: the last step at which they were together.
    """

    age: Int[Array, ""]
    highest: Float[Array, ""]
    apart: Bool[Array, ""]
    returns: Int[Array, ""]
    coupled_at: Int[Array, ""]


def coupling_probe() -> Probe:
    """Emits, at the end, how often g² and v came together again, and when they last were."""

    def init(key: Key[Array, ""], params: Params) -> Coupling:
        del key
        zero = jnp.zeros((), jnp.int32)
        return Coupling(zero, jnp.zeros_like(params), zero.astype(bool), zero, zero)

    def measure(last: Coupling, view: View) -> tuple[Coupling, dict[str, Array]]:
        ratio = jnp.square(view.objective.grads) / _second_moment(view)
        highest, age = jnp.maximum(last.highest, ratio), last.age + 1
        full = age >= jnp.round(2 / (1 - view.hyper["b1"])).astype(age.dtype)
        together = ratio > TOGETHER
        state = Coupling(
            age=jnp.where(full, 0, age),
            highest=jnp.where(full, 0.0, highest),
            apart=~together & (last.apart | (full & (highest < APART))),
            returns=last.returns + (last.apart & together).astype(age.dtype),
            coupled_at=jnp.where(together, view.step, last.coupled_at),
        )
        return state, {"returns": state.returns, "coupled_at": state.coupled_at}

    return Probe(measure, init=init, emit="end")
