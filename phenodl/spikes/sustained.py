"""Criteria that a single loud mini-batch does not meet: a signal above its threshold for a while.

A curvature measured on mini-batches crosses 2/η long before a spike and falls back again, from one
batch to the next. What it does on average over the last steps says more: its trailing mean passes
the threshold, or half of it as an early warning; or it stays above for some steps in a row. All of
it looks back only, so that it could be known while training goes on. The threshold is that of SPIKE
(arXiv 2506.04805), the criteria are this module's.

:func:`above` gives the steps at which a criterion is met. The functions of
:mod:`phenodl.spikes.alarms` score these as they score any alarm; :func:`first_met` asks when a
criterion is first met on the way to a given step. This is NumPy, for records that lie in memory.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike


def trailing_mean(
    signal: Float[np.ndarray, "*runs steps"], width: int = 10
) -> Float[np.ndarray, "*runs steps"]:
    """The mean of what was measured at each step and those before it, ``width`` steps in all.

    Unlike :func:`phenodl.spikes.detect.trailing_mean`, which smooths losses and must not hide a
    divergence, this skips NaN: a signal that is measured at every fifth step, say.

    Args:
        signal: any.
        width: steps to look back on, the present one included; fewer at the beginning.

    Returns:
        NaN where none of the steps was measured.

    Raises:
        ValueError: if ``width`` is below 1.

    Example:
        >>> trailing_mean(np.array([1.0, np.nan, 5.0, np.nan, np.nan]), width=2).tolist()
        [1.0, 1.0, 5.0, 5.0, nan]
    """
    if width < 1:
        raise ValueError(f"width must be at least 1; it is {width}")
    measured = ~np.isnan(signal)
    totals = _trailing(np.where(measured, signal, 0.0), width).sum(axis=-1)
    counts = _trailing(measured, width).sum(axis=-1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def above(
    signal: Float[np.ndarray, "*runs steps"],
    threshold: ArrayLike,
    *,
    width: int = 10,
    share: float = 1.0,
    consecutive: int = 1,
) -> Bool[np.ndarray, "*runs steps"]:
    """The steps at which the trailing mean has stayed above the threshold.

    Args:
        signal: any; NaN where it was not measured.
        threshold: that broadcasts against the signal, 2/η for a preconditioned curvature.
        width: steps of the trailing mean; 1 takes the signal as it is.
        share: of the threshold that has to be passed, 1/2 for an early warning.
        consecutive: steps in a row, up to the present one, at which the mean must be above.

    Returns:
        Whether the criterion is met, per step.

    Raises:
        ValueError: if ``width`` or ``consecutive`` is below 1.

    Example:
        >>> above(np.array([0.0, 4, 4, 0, 4, 4, 4]), 1.9, width=2, consecutive=2).tolist()
        [False, False, True, True, True, True, True]
    """
    if consecutive < 1:
        raise ValueError(f"consecutive must be at least 1; it is {consecutive}")
    passed = trailing_mean(signal, width) > share * np.asarray(threshold)
    return np.all(_trailing(passed, consecutive), axis=-1)


def first_met(
    met: Bool[np.ndarray, "run steps"],
    before: Int[np.ndarray, "run spike"],
    since: int | Int[np.ndarray, "run spike"] = 0,
) -> Int[np.ndarray, "run spike"]:
    """The first step at which a criterion is met on the way to each peak or trigger.

    This asks whether there was any warning, however early. How far ahead the alarm began that
    announced a spike is the question of :func:`phenodl.spikes.alarms.lead_times`.

    Args:
        met: whether the criterion is met, from :func:`above`.
        before: the last step that counts, such as the trigger or the peak of a spike; entries below
            0 are padding.
        since: the first step that counts, such as the end of the spike before.

    Returns:
        One per entry of ``before``; -1 where the criterion is not met, and for padding.

    Example:
        >>> met = np.array([[True, False, False, True, True, False]])
        >>> first_met(met, np.array([[2, 5, -1]]), since=1).tolist()
        [[-1, 3, -1]]
    """
    steps = np.arange(met.shape[-1])
    first = np.broadcast_to(since, before.shape)[..., None]
    counts = met[:, None, :] & (first <= steps) & (steps <= before[..., None])
    return np.where(counts.any(axis=-1), counts.argmax(axis=-1), -1)


def _trailing(values: np.ndarray, width: int) -> np.ndarray:
    """Each step's last ``width`` values along a new axis, zeros (or False) before the first."""
    # One more than the first step needs: a record of no steps has room for a window, too.
    padding = [(0, 0)] * (values.ndim - 1) + [(width, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, padding), width, axis=-1)
    return windows[..., 1:, :]
