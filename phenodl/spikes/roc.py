"""How well a signal foretells loss spikes when no threshold is set.

:mod:`phenodl.spikes.alarms` holds a signal against a threshold that the theory gives. Here only its
height matters: is it higher shortly before a spike than at other times? So signals without a
natural threshold, such as the norm of the gradient, can be compared with those that have one.

This is NumPy, for records that lie in memory; the spikes come from :mod:`phenodl.spikes.detect`.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def auc(
    signal: Float[np.ndarray, "run steps"],
    trigger: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    *,
    horizon: int = 30,
) -> Float[np.ndarray, " run"]:
    """How well a signal's height tells the steps before a trigger from all others.

    The area under the receiver operating characteristic of "a trigger within the next ``horizon``
    steps", which is the probability that the signal is higher at a step of which this is true than
    at one of which it is not, ties counting half (Mann and Whitney, Ann. Math. Stat. 18, 1947). 1/2
    is chance, but see :func:`shifted_auc`. Steps from a trigger to the end of its spike are left
    out, and so are those at which the signal is NaN.

    Args:
        signal: any; higher means nearer to a spike.
        trigger: step at which each spike is triggered; entries below 0 are padding.
        end: step at which each ends, -1 for one that does not.
        horizon: steps ahead.

    Returns:
        One per run; NaN where there are no steps of one of the two kinds.

    Example:
        >>> signal = np.array([[3.0, 1.0, 2.0, 2.0, 5.0, 9.0]])
        >>> auc(signal, np.array([[5]]), np.array([[5]]), horizon=2).tolist()
        [0.75]
    """
    (areas,) = _areas(signal, trigger, end, np.zeros((1, len(signal)), int), horizon)
    return areas


def shifted_auc(
    signal: Float[np.ndarray, "run steps"],
    trigger: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    *,
    shifts: int = 100,
    rng: np.random.Generator,
    horizon: int = 30,
) -> Float[np.ndarray, "shift run"]:
    """The same for signals turned around the record by random amounts.

    Spikes that come at regular times, or a signal that drifts, put this away from 1/2.

    Args:
        signal: as in :func:`auc`.
        trigger: as in :func:`auc`.
        end: as in :func:`auc`.
        shifts: how many; each run is turned by another amount each time.
        rng: that draws the amounts, uniform over all but 0.
        horizon: as in :func:`auc`.

    Returns:
        Areas; NaN for a record of less than two steps, which cannot be turned.
    """
    runs, steps = signal.shape
    if steps < 2:
        return np.full((shifts, runs), np.nan)
    amounts = rng.integers(1, steps, size=(shifts, runs))
    return _areas(signal, trigger, end, amounts, horizon)


def _areas(
    signal: Float[np.ndarray, "run steps"],
    trigger: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    amounts: Int[np.ndarray, "shift run"],
    horizon: int,
) -> Float[np.ndarray, "shift run"]:
    """The areas with each run turned by each of its amounts."""
    columns = []
    for row, first, last, turns in zip(signal, trigger, end, amounts.T, strict=True):
        ahead, calm = _before_and_between(first, last, len(row), horizon)
        # Equal values share a rank; NaN has none. Turning a signal leaves its ranks alone.
        ranks = np.full(len(row), -1)
        _, ranks[~np.isnan(row)] = np.unique(row[~np.isnan(row)], return_inverse=True)
        columns.append([_area(np.roll(ranks, turn), ahead, calm) for turn in turns])
    return np.array(columns).reshape(len(signal), len(amounts)).T


def _before_and_between(
    trigger: Int[np.ndarray, " spike"], end: Int[np.ndarray, " spike"], steps: int, horizon: int
) -> tuple[Bool[np.ndarray, " steps"], Bool[np.ndarray, " steps"]]:
    """Steps with a trigger within the horizon, and those without, spikes left out of both."""
    real = trigger >= 0
    first, last = trigger[real, None], np.where(end < 0, steps, end)[real, None]
    step = np.arange(steps)
    outside = np.all((step < first) | (last < step), axis=0)
    ahead = np.any((step < first) & (first <= step + horizon), axis=0)
    return ahead & outside, ~ahead & outside


def _area(
    ranks: Int[np.ndarray, " steps"],
    ahead: Bool[np.ndarray, " steps"],
    calm: Bool[np.ndarray, " steps"],
) -> float:
    """The probability that a rank of the first kind is higher than one of the second."""
    high, low = (ranks[kind & (ranks >= 0)] for kind in (ahead, calm))
    if high.size == 0 or low.size == 0:
        return np.nan
    equal = np.bincount(low, minlength=len(ranks))
    lower = np.cumsum(equal) - equal / 2
    return float(lower[high].mean() / low.size)
