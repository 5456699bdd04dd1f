"""Quadratics of several dimensions: the eigenvalues along the axes, or rotated away from them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from experiments.spikes.quadratic import theory
from experiments.spikes.quadratic.stages import detected
from phenodl.optim import adam
from phenodl.protocol import Probe, Problem, View

PROBLEM = Problem(
    init=lambda key, data, hyper: data["start"],
    loss=lambda theta, batch: theta @ batch["hessian"] @ theta / 2,
)

ALIGNED = 0
"""The instance whose eigenvectors are the axes; the others are rotated."""


def instances(eigenvalues: Sequence[float], seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """The aligned quadratic and one rotated at random per seed: ``hessian`` and ``start`` of each.

    Every start has the coordinate 1 along each eigenvector.
    """
    size = len(eigenvalues)
    draws = [np.random.default_rng(seed).normal(size=(size, size)) for seed in seeds]
    vectors = np.stack([np.eye(size), *(np.linalg.qr(draw)[0] for draw in draws)])
    hessian = (vectors * np.asarray(eigenvalues)) @ np.swapaxes(vectors, 1, 2)
    return {"hessian": hessian, "start": vectors.sum(2)}


def motion_probe() -> Probe:
    """Records the ``gradient``, v as ``second_moment``, and the update as ``move``."""

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {
            "gradient": view.objective.grads,
            "second_moment": jnp.asarray(adam.adam_state(view.method_state).nu),
            "move": view.update,
        }

    return Probe(measure)


def preconditioner(
    second_moment: Float[np.ndarray, "step d"], b2: float, eps: float
) -> Float[np.ndarray, "step d"]:
    """The diagonal of D at each step."""
    count = np.arange(1, len(second_moment) + 1)[:, None]
    return 1 / (np.sqrt(second_moment / (1 - b2**count)) + eps)


class Spike(NamedTuple):
    """The first spike of a rotated quadratic.

    Attributes:
        crossing: the step at which λ_max(Ĥ) first exceeds 2/η; -1 if it never does.
        trigger: the step at which the detector sees the loss rise; -1 without a spike.
        alignment: |cos| between the update into the peak and the eigenvector of λ_max(Ĥ) at the
            crossing, in the metric of D^-1, in which Ĥ is symmetric; NaN without a spike.
    """

    crossing: int
    trigger: int
    alignment: float


def first_spike(
    run: xr.Dataset,
    hessian: Float[np.ndarray, "d d"],
    *,
    learning_rate: float,
    b1: float,
    b2: float,
) -> Spike:
    """The first spike of one run without ε: where it is announced and where it goes.

    Args:
        run: ``loss``, ``second_moment`` and ``move`` along the steps.
        hessian: of its loss.
        learning_rate: η.
        b1: decay of the first moment.
        b2: decay of the second moment.
    """
    spikes, _ = detected(run.loss.values, b1)
    root = np.sqrt(preconditioner(run.second_moment.values, b2, 0.0))
    bound = 2 / (learning_rate * theory.momentum_factor(b1))
    # λ_max(D^½ H D^½) is at most λ_max(H) max(D): most steps need no eigenvalues.
    for step in np.flatnonzero(root.max(1) ** 2 * np.linalg.norm(hessian, 2) > bound):
        values, vectors = np.linalg.eigh(root[step][:, None] * hessian * root[step])
        if values[-1] > bound:
            break
    else:
        return Spike(-1, int(spikes.trigger[0]), np.nan)
    peak = int(spikes.peak[0])
    if peak < 1:
        return Spike(int(step), -1, np.nan)
    move = run.move.values[peak - 1] / root[peak - 1]
    return Spike(
        int(step),
        int(spikes.trigger[0]),
        float(abs(move @ vectors[:, -1]) / np.linalg.norm(move)),
    )
