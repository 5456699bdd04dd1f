"""Each optimizer beside the flow, instance by instance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from experiments.completion.connected import Connected
from experiments.completion.gradient_flow import CONVERGED
from phenodl import completion

MOVED = 1e-3
"""Distance from which a solution counts as moved: where the data determine the fit, every optimizer
finds it, and what remains of the distance is rounding."""


class Solutions(NamedTuple):
    """What one optimizer learned, at each of its settings.

    Attributes:
        settings: learning rates or step factors.
        learned: the matrices.
        converged: whether the loss fell to ``CONVERGED``.
        minimal: whether the numerical rank is the minimum rank of all fits.
        nuclear_excess: nuclear norm over the least of all fits, minus 1.
    """

    settings: Float[np.ndarray, " settings"]
    learned: Float[np.ndarray, "instances settings rows columns"]
    converged: Bool[np.ndarray, "instances settings"]
    minimal: Bool[np.ndarray, "instances settings"]
    nuclear_excess: Float[np.ndarray, "instances settings"]


class Comparison(NamedTuple):
    """An optimizer beside the flow; a setting's figures count where both have converged.

    Attributes:
        settings: learning rates or step factors.
        counted: where both have converged.
        distance: |W - W_flow|_F / |W_flow|_F; NaN where not counted.
        rank_gain: 1 where the rank is minimal for the optimizer alone, -1 for the flow alone.
        nuclear_gain: nuclear excess less that of the flow; NaN where not counted.
    """

    settings: Float[np.ndarray, " settings"]
    counted: Bool[np.ndarray, "instances settings"]
    distance: Float[np.ndarray, "instances settings"]
    rank_gain: Int[np.ndarray, "instances settings"]
    nuclear_gain: Float[np.ndarray, "instances settings"]


def solutions(instances: Connected, trained: xr.Dataset) -> Solutions:
    """Measures one training, whose axes are the instances and, of an optimizer, its settings."""
    if trained.mean_loss.ndim == 1:
        trained = trained.expand_dims({"setting": [1.0]}, 1)
    _, axis = trained.mean_loss.dims
    learned, loss = trained.W.values, trained.mean_loss.values
    learned = np.where((loss <= CONVERGED)[..., None, None], learned, 0.0)  # some have diverged
    rank, norm = map(np.asarray, _measure(jnp.asarray(learned)))
    return Solutions(
        settings=trained[axis].values,
        learned=learned,
        converged=loss <= CONVERGED,
        minimal=rank == instances.minimum_rank[:, None],
        nuclear_excess=norm / instances.least_norm[:, None] - 1,
    )


@jax.jit
def _measure(
    learned: Float[Array, "instances settings rows columns"],
) -> tuple[Int[Array, "instances settings"], Float[Array, "instances settings"]]:
    return completion.numerical_rank(learned), completion.nuclear_norm(learned)


def compare(found: Solutions, reference: Solutions) -> Comparison:
    """Sets an optimizer's solutions beside those of the flow."""
    counted = found.converged & reference.converged
    apart = np.linalg.norm(found.learned - reference.learned, axis=(-2, -1))
    size = np.linalg.norm(reference.learned, axis=(-2, -1))
    return Comparison(
        settings=found.settings,
        counted=counted,
        distance=np.where(counted, apart / np.where(counted, size, 1), np.nan),
        rank_gain=found.minimal.astype(int) - reference.minimal.astype(int),
        nuclear_gain=np.where(counted, found.nuclear_excess - reference.nuclear_excess, np.nan),
    )


def slopes(comparison: Comparison) -> Float[np.ndarray, " some"]:
    """The exponent of the distance in the setting, per instance, by least squares.

    Of instances that count at every setting and whose solution has ``MOVED`` at the largest.
    """
    moved = comparison.counted.all(1) & (comparison.distance[:, -1] >= MOVED)
    x = np.log(comparison.settings)
    y = np.log(np.maximum(comparison.distance[moved], 1e-12))
    x = x - x.mean()
    return (y @ x) / (x @ x)


def ratios(comparison: Comparison, other: Comparison) -> np.ndarray:
    """How many times farther from the flow one optimizer ends than another, at the last setting.

    Of instances that count for both and where one of them has ``MOVED``.
    """
    far, near = comparison.distance[:, -1], other.distance[:, -1]
    moved = np.isfinite(far) & np.isfinite(near) & (np.fmax(far, near) >= MOVED)
    return far[moved] / np.maximum(near[moved], 1e-12)
