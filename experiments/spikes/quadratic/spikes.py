"""The first spike of single trajectories, beside what ``theory.py`` derives of it."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.ndimage import maximum_filter1d

from experiments.spikes.quadratic import theory
from experiments.spikes.quadratic.stages import detected
from phenodl.spikes import detect

DECOUPLED = 1e-3
"""g² under this share of v: v is left to itself."""

SLOW = 1 / 4
"""The step grows slowly for the theory of the fall if 1 - β2 is under this share of 1 - β1."""

FAR = 10
"""No overshoot exceeds the edge by this factor; 6.3 is the limit of slow growth."""

NEAR = 60
"""A trigger belongs to a crossing if the curvature was above 2/η within so many steps before."""


def onset(size: Float[np.ndarray, " step"], v: Float[np.ndarray, " step"], b1: float) -> int:
    """The first step at which θ is at the top of a swing with g² far below v; -1 without one.

    Args:
        size: |g| = λ|θ| at every step.
        v: the second moment.
        b1: decay of the first moment.
    """
    window = detect.ring_down(b1)
    apart = maximum_filter1d(size, window) ** 2 < DECOUPLED * v
    if not apart.any():
        return -1
    first = int(np.argmax(apart))
    return first + int(np.argmax(size[first : first + window]))


def crossing_row(
    point: Mapping[str, float],
    size: Float[np.ndarray, " step"],
    v: Float[np.ndarray, " step"],
    curvature: Float[np.ndarray, " step"],
    eigenvalue: float = 1.0,
) -> dict[str, float]:
    """When the curvature first exceeds 2/η, counted in gradients, and when it should.

    Args:
        point: ``learning_rate``, ``b1``, ``b2`` and ``eps``.
        size: |g| at every step.
        v: the second moment.
        curvature: preconditioned.
        eigenvalue: of the Hessian along the coordinate.

    Returns:
        The point with ``measured`` and ``derived``, both infinite for never.
    """
    above = curvature > 2 / point["learning_rate"]
    first = onset(size, v, point["b1"])
    count = first + 1
    constant = v[first] * point["b2"] ** -float(count)
    derived = theory.crossing(constant, **point, eigenvalue=eigenvalue)
    return {
        **point,
        "eigenvalue": eigenvalue,
        "measured": float(np.argmax(above) + 1) if above.any() else np.inf,
        "derived": float(np.ceil(derived)) if first >= 0 else np.nan,
    }


def spike_row(run: xr.Dataset, eta: float, b1: float, b2: float) -> dict[str, float]:
    """Overshoot and ring-down of a trajectory's first spike; NaN without one.

    Args:
        run: ``loss``, ``second_moment``, ``curvature`` and ``threshold`` along the steps.
        eta: learning rate.
        b1: decay of the first moment.
        b2: decay of the second moment.
    """
    row = {"b1": b1, "b2": b2, "overshoot": np.nan, "derived": np.nan, "ring_down": np.nan}
    above = (run.curvature > run.threshold).values
    crossing = int(np.argmax(above))
    below = np.flatnonzero(~above[crossing:])
    if not above.any() or not below.size:
        return row
    back = crossing + int(below[0])
    size, v = np.sqrt(2 * run.loss.values), run.second_moment.values
    return row | {
        "overshoot": float(run.curvature.values[crossing:back].max() * eta / 2),
        "derived": derived_overshoot(size, v, eta, b1, b2),
        "ring_down": ring_down(run.loss.values, back, b1),
    }


def derived_overshoot(
    size: Float[np.ndarray, " step"],
    v: Float[np.ndarray, " step"],
    eta: float,
    b1: float,
    b2: float,
) -> float:
    """The highest curvature over its edge: where the growing θ² meets the shrinking v again."""
    first = onset(size, v, b1)
    if first < 0:
        return np.nan
    count = np.arange(first, len(v)) + 1
    decayed = v[first] * b2 ** (count - count[0])
    h = eta * np.sqrt((1 - b2**count) / np.maximum(decayed, np.finfo(float).tiny))
    reached = slice(np.searchsorted(h, FAR * theory.edge(b1, b2)))
    h, decayed = h[reached], decayed[reached]
    moved = np.concatenate([[0.0], theory.fall_of_theta(h, b1)])
    meets = 2 * (np.log(size[first]) + moved) > np.log(decayed)
    meets &= h > theory.edge(b1, b2)
    return float(h[np.argmax(meets)] / theory.edge(b1, b2)) if meets.any() else np.nan


def ring_down(loss: Float[np.ndarray, " step"], after: int, b1: float) -> float:
    """The factor per step between the tops of a swinging loss that follow a spike; or NaN."""
    window = detect.ring_down(b1)
    start = after + window // 2
    level = np.log(np.maximum(loss[start : start + 3 * window], np.finfo(float).tiny))
    tops = np.flatnonzero((level[1:-1] > level[:-2]) & (level[1:-1] > level[2:])) + 1
    if b1 == 0 or len(tops) < 3:
        return np.nan
    return float(np.exp(np.polyfit(tops, level[tops], deg=1)[0]))


def trigger_row(run: xr.Dataset, b1: float) -> dict[str, int]:
    """How often the detector triggers on a curve, and how often no crossing is at hand.

    Args:
        run: ``loss``, ``curvature`` and ``threshold`` along the steps.
        b1: decay of the first moment; 0 has the detector look back on two steps alone.
    """
    above = (run.curvature > run.threshold).values
    recent = maximum_filter1d(above.astype(int), NEAR, origin=(NEAR - 1) // 2) > 0
    _, seen = detected(run.loss.values, b1)
    triggered = np.asarray(seen.triggered)
    return {"triggers": int(triggered.sum()), "false": int((triggered & ~recent).sum())}
