"""How well a signal that crosses a threshold foretells loss spikes.

An alarm is a stretch of steps on which the signal exceeds the threshold, short gaps closed. It is
true if a spike is triggered between its beginning and ``horizon`` steps after its end. Alarms that
begin while a spike is under way say nothing about the future: they are left out of the precision,
and counted. A spike is foreseen if an alarm reaches it that began at its trigger or before.

A signal that is often above its threshold is right by chance, so a precision means something only
beside that of the same alarms at the wrong times: :func:`shifted` turns them around the record by
random amounts. A signal without a natural threshold is judged by
:mod:`phenodl.spikes.roc`.

This is NumPy, for records that lie in memory; the spikes come from :mod:`phenodl.spikes.detect`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


class Alarms(NamedTuple):
    """The alarms of one run: first and last step of each, in order."""

    first: Int[np.ndarray, " alarm"]
    last: Int[np.ndarray, " alarm"]


class Counts(NamedTuple):
    """What became of the alarms and spikes, per run (or per shift and run).

    The runs are the independent events: precision and recall get their intervals by resampling
    these rows.

    Attributes:
        true: alarms with a spike within reach.
        false: alarms without.
        dropped: alarms that began inside a spike, in neither of the two.
        foreseen: spikes with an alarm that began before.
        spikes: all spikes.
    """

    true: Int[np.ndarray, "*run"]
    false: Int[np.ndarray, "*run"]
    dropped: Int[np.ndarray, "*run"]
    foreseen: Int[np.ndarray, "*run"]
    spikes: Int[np.ndarray, "*run"]


def alarms(above: Bool[np.ndarray, " steps"], gap: int = 10) -> Alarms:
    """Stretches of steps above the threshold, with gaps of at most ``gap`` steps closed.

    Args:
        above: whether the signal exceeds its threshold, per step; a signal that is NaN does not.
        gap: the longest run of quiet steps inside an alarm.

    Example:
        >>> first, last = alarms(np.array([1, 0, 1, 0, 0, 1], bool), gap=1)
        >>> first.tolist(), last.tolist()
        ([0, 5], [2, 5])
    """
    steps = np.flatnonzero(above)
    apart = np.diff(steps) > gap + 1
    return Alarms(
        steps[np.concatenate([[True], apart])[: len(steps)]],
        steps[np.concatenate([apart, [True]])[: len(steps)]],
    )


def count(
    found: Alarms,
    trigger: Int[np.ndarray, " spike"],
    end: Int[np.ndarray, " spike"],
    horizon: int = 30,
) -> Counts:
    """Holds the alarms of one run against its spikes.

    Args:
        found: the alarms.
        trigger: step at which each spike is triggered; entries below 0 are padding.
        end: step at which each ends, -1 for one that does not.
        horizon: steps after an alarm in which a spike still counts as announced.

    Example:
        >>> counts = count(alarms(np.arange(100) // 10 == 4), np.array([55]), np.array([80]))
        >>> [int(number) for number in (counts.true, counts.false, counts.foreseen)]
        [1, 0, 1]
    """
    trigger, end = _spikes(trigger, end)
    first = found.first[:, None]
    reached = _reaches(found, trigger, horizon)
    midway = ((trigger < first) & (first <= end)).any(axis=1)
    hit = reached.any(axis=1)
    numbers = [(hit & ~midway).sum(), (~hit & ~midway).sum(), midway.sum()]
    return Counts(*(np.asarray(n) for n in (*numbers, reached.any(axis=0).sum(), len(trigger))))


def lead_times(
    found: Alarms,
    trigger: Int[np.ndarray, " spike"],
    horizon: int = 30,
) -> Float[np.ndarray, " spike"]:
    """Steps from the beginning of the alarm to the trigger of each spike.

    Where several alarms reach a spike it is the latest one that counts.

    Args:
        found: the alarms.
        trigger: step at which each spike is triggered; entries below 0 are padding.
        horizon: as in :func:`count`.

    Returns:
        One per spike; NaN for padding and for a spike that no alarm foresaw.

    Example:
        >>> lead_times(alarms(np.arange(100) // 10 == 4), np.array([55, 90])).tolist()
        [15.0, nan]
    """
    ahead = np.where(_reaches(found, trigger, horizon), trigger - found.first[:, None], np.inf)
    nearest = ahead.min(axis=0, initial=np.inf)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def score(
    above: Bool[np.ndarray, "run steps"],
    trigger: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    *,
    gap: int = 10,
    horizon: int = 30,
) -> Counts:
    """The counts of each run.

    Args:
        above: whether the signal exceeds its threshold.
        trigger: as in :func:`count`, per run.
        end: as in :func:`count`, per run.
        gap: as in :func:`alarms`.
        horizon: as in :func:`count`.
    """
    runs = zip(above, trigger, end, strict=True)
    return _stack([count(alarms(row, gap), first, last, horizon) for row, first, last in runs])


def shifted(
    above: Bool[np.ndarray, "run steps"],
    trigger: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    *,
    shifts: int = 100,
    rng: np.random.Generator,
    gap: int = 10,
    horizon: int = 30,
) -> Counts:
    """The same for signals turned around the record by random amounts: what chance achieves.

    Args:
        above: as in :func:`score`.
        trigger: as in :func:`score`.
        end: as in :func:`score`.
        shifts: how many; each run is turned by another amount each time.
        rng: that draws the amounts, uniform over all but 0.
        gap: as in :func:`alarms`.
        horizon: as in :func:`count`.

    Returns:
        Counts of shape (shifts, run). A record of less than two steps cannot be turned, and counts
        neither alarms nor spikes.
    """
    runs, steps = above.shape
    if steps < 2:
        return Counts(*np.zeros((len(Counts._fields), shifts, runs), int))
    amounts = rng.integers(1, steps, size=(shifts, runs))
    turned = (
        np.stack([np.roll(row, amount) for row, amount in zip(above, each, strict=True)])
        for each in amounts
    )
    return _stack([score(rows, trigger, end, gap=gap, horizon=horizon) for rows in turned])


def precision(counts: Counts) -> Float[np.ndarray, ""]:
    """The share of alarms that were true, all runs together; NaN without alarms.

    Example:
        >>> one, three = np.array([1, 2]), np.array([1, 0])
        >>> float(precision(Counts(one, three, 0 * one, one, one)))
        0.75
    """
    return _share(counts.true, counts.true + counts.false)


def recall(counts: Counts) -> Float[np.ndarray, ""]:
    """The share of spikes that were foreseen, all runs together; NaN without spikes."""
    return _share(counts.foreseen, counts.spikes)


def _share(part: Shaped[np.ndarray, "*run"], whole: Shaped[np.ndarray, "*run"]) -> np.ndarray:
    total = whole.sum()
    return np.asarray(part.sum() / total if total else np.nan)


def _spikes(
    trigger: Int[np.ndarray, " spike"], end: Int[np.ndarray, " spike"]
) -> tuple[Int[np.ndarray, " spike"], Int[np.ndarray, " spike"]]:
    """Without the padding, and with an open end at the far end of all steps."""
    real = trigger >= 0
    return trigger[real], np.where(end < 0, np.iinfo(end.dtype).max, end)[real]


def _reaches(
    found: Alarms, trigger: Int[np.ndarray, " spike"], horizon: int
) -> Bool[np.ndarray, "alarm spike"]:
    first, last = found.first[:, None], found.last[:, None]
    return (first <= trigger) & (trigger <= last + horizon)


def _stack(counts: Sequence[Counts]) -> Counts:
    return Counts(*(np.stack(column) for column in zip(*counts, strict=True)))
