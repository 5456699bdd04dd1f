"""A flow in which every run has its own loss, step and gauge, so that one compiled step serves all.

Beside ``target``, ``mask`` and ``start``, instances bring their ``loss_weights``, a one among zeros
in the order of ``ENTRY_LOSSES``, and whether they are ``gauged``. ``safe_step_factor`` is a
hyper-parameter.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from phenodl.completion import gauge, probes
from phenodl.models import factorization
from phenodl.models.factorization import Factors, Observations, given_start, imbalance
from phenodl.optim import flow
from phenodl.protocol import Hyper, Objective, Probe, Problem, Transform, View

ENTRY_LOSSES = {
    "squared": factorization.squared_error,
    "Huber": factorization.huber,
    "logistic": factorization.logistic,
}

LOOK_EVERY = 50
"""Steps between two looks at the singular values."""

_LOSSES = [factorization.problem(entry_loss=each).loss for each in ENTRY_LOSSES.values()]
_SWEEPS = 6  # of Jacobi rotations; four columns are orthogonal to rounding after four or five


def problem() -> Problem:
    """The loss of each run's choice, from its own start."""
    return Problem(init=given_start, loss=_chosen_loss)


@functools.cache
def training() -> Mapping[str, Any]:
    """The arguments of all trainings but for their runs and steps."""
    arguments = {
        "method": flow.rk4(_scaled_safe_step),
        "probes": (
            probes.factors(),
            Probe(_spectrum, every=LOOK_EVERY),
            Probe(_drift, init=_undrifted, emit="end"),
        ),
        "transforms": (Transform(gauge.graded().every, _gauge_if_wanted),),
        "chunk": 1000,
        "layout": factorization.small_layout(),
    }
    return MappingProxyType(arguments)


def _chosen_loss(factors: Factors, data: Observations) -> Float[Array, "*runs"]:
    weighted = zip(data["loss_weights"], _LOSSES, strict=True)
    return jnp.stack([weight * loss(factors, data) for weight, loss in weighted]).sum(0)


def _scaled_safe_step(
    objective: Objective, factors: Factors, hyper: Hyper
) -> Float[Array, "*runs"]:
    return hyper["safe_step_factor"] * factorization.safe_step()(objective, factors, hyper)


def _gauge_if_wanted(factors: Factors, data: Observations) -> Factors:
    turned = gauge.graded().apply(factors, data)
    return jax.tree.map(lambda new, old: jnp.where(data["gauged"], new, old), turned, factors)


def _spectrum(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
    """The singular values of W_aug, each with its own relative accuracy: zeros are exact."""
    left, right = jax.lax.fori_loop(
        0, _SWEEPS, lambda _, pair: gauge.orthogonalize(*pair), tuple(view.params)
    )
    values = jnp.sqrt((left * left).sum(0) + (right * right).sum(1))
    return state, {"singular_values": jnp.sort(values, axis=0)[::-1]}


def _undrifted(key: Key[Array, "*runs"], factors: Factors) -> tuple[Array, Array]:
    del key
    start = imbalance(factors)
    return start, jnp.zeros_like(start[0, 0])


def _drift(state: tuple[Array, Array], view: View) -> tuple[tuple[Array, Array], dict[str, Array]]:
    """The largest change so far of Aᵀ A - B Bᵀ, relative to |A|² + |B|²."""
    start, largest = state
    a, b = view.params
    size = (a * a).sum((0, 1)) + (b * b).sum((0, 1))
    change = jnp.sqrt(((imbalance(view.params) - start) ** 2).sum((0, 1))) / size
    largest = jnp.maximum(largest, change)
    return (start, largest), {"drift": largest}
