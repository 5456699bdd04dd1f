"""Fits of the recorded runs of ``spikes-polynomial``, each beside what is derived."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import maximum_filter1d

from experiments.spikes.polynomial import theory
from experiments.spikes.polynomial.measure import TINY
from experiments.spikes.quadratic.theory import edge, fall_of_theta
from phenodl.spikes import detect

LAST = 1 / 3
"""The share of a run, at its end, over which rates are fitted."""

DECOUPLED = 1e-3
"""g² under this share of v: the fall of θ²/2 has begun."""

SETTLED = 4.0
"""... and so many times 1/(1 - β2) steps are over: most of the bias correction of v is."""


class Rates(NamedTuple):
    """A run on θ^p / p with p > 2, measured beside derived.

    Attributes:
        loss: change of ln(loss) per step over the derived one.
        second_moment: change of ln v per step over ln β2.
        curvature: median of η λ, λ the preconditioned curvature, over the derived constant.
    """

    loss: float
    second_moment: float
    curvature: float


def adam_rates(
    point: Mapping[str, Any],
    gradient: Float[np.ndarray, " record"],
    second_moment: Float[np.ndarray, " record"],
    steps: Int[np.ndarray, " record"],
) -> Rates:
    """Fits the last third of a run of Adam, before v leaves the numbers.

    Args:
        point: its ``power``, ``learning_rate``, ``b1`` and ``b2``.
        gradient: g, at some of the steps; NaN after the end of the run.
        second_moment: v there, without bias correction.
        steps: which they are.
    """
    power, eta, b1, b2 = (point[name] for name in ("power", "learning_rate", "b1", "b2"))
    gradient, v = np.abs(gradient), second_moment
    fine = np.flatnonzero((v > TINY) & (gradient > 0))
    end = steps[fine[-1]] if fine.size else 0
    late = fine[steps[fine] >= (1 - LAST) * end]
    if late.size < 3:
        return Rates(np.nan, np.nan, np.nan)
    log_loss = power / (power - 1) * np.log(gradient[late])
    theta = gradient[late] ** (1 / (power - 1))
    felt = (1 - b1) / (1 + b1) * eta * (power - 1) * theta ** (power - 2) / np.sqrt(v[late])
    return Rates(
        _slope(steps[late], log_loss) / float(theory.loss_rate(power, b2)),
        _slope(steps[late], np.log(v[late])) / np.log(b2),
        float(np.median(felt) / theory.curvature(power, b1, b2)),
    )


def exponent(loss: Float[np.ndarray, " record"], steps: Int[np.ndarray, " record"]) -> float:
    """The power of the step number by which a loss falls, over the last decade of its steps.

    Of L = c (t + t0)^α the time of an e-fold, dt / d(ln L) = (t + t0) / α, has the slope 1/α
    whatever t0: a run that happens to come close to the minimum early waits there for long.
    """
    late = (steps >= steps[-1] / 10) & (loss > 0)
    if late.sum() < 3:
        return np.nan
    times = steps[late].astype(float)
    return 1 / _slope(times, 1 / np.gradient(np.log(loss[late]), times))


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(x - x[0], y, deg=1)[0])


class Fall(NamedTuple):
    """The fall of ln θ on θ²/2 from decoupling to the edge of stability; NaN if there is none."""

    measured: float
    derived: float


def fall(
    point: Mapping[str, Any],
    gradient: Float[np.ndarray, " step"],
    second_moment: Float[np.ndarray, " step"],
) -> Fall:
    """The fall before a run's first spike, beside the one derived from v at its beginning.

    Args:
        point: its ``learning_rate``, ``b1`` and ``b2``.
        gradient: g = θ, at every step.
        second_moment: v, without bias correction.
    """
    eta, b1, b2 = (point[name] for name in ("learning_rate", "b1", "b2"))
    v = second_moment
    size, window = np.abs(gradient), detect.ring_down(b1)
    level = maximum_filter1d(size, window)
    apart = level**2 < DECOUPLED * v
    apart[: int(SETTLED / (1 - b2))] = False
    if not apart.any():
        return Fall(np.nan, np.nan)
    first = int(np.argmax(apart))
    first += int(np.argmax(size[first : first + window]))  # where θ swings back
    count = np.arange(first, len(v)) + 1
    h = eta * np.sqrt((1 - b2**count) / v[first]) * b2 ** ((first + 1 - count) / 2)
    h = h[: np.searchsorted(h, edge(b1, b2))]
    if len(h) < 2:
        return Fall(np.nan, np.nan)
    lowest = level[first : first + len(h)].min()
    return Fall(float(np.log(lowest / size[first])), float(fall_of_theta(h, b1)[-1]))
