"""What a loss spike leaves behind: neutral, benign, malignant or catastrophic.

The four names are those of SPIKE (arXiv 2506.04805, appendix); the rule is this module's. It reads
the *level* of the detector, the highest log10 excess loss of the last 2/(1 - b1) steps, and
compares three numbers, in decades:

    base        the lowest level between the spike before and this one.
    after       the lowest level within ``settle`` steps of the spike's end, and before the next
                trigger.
    expected    at that step, the level of a run that had not spiked: a straight line is laid
                through the level of the ``history`` steps before the base was reached, and
                continued from the base. A trend that rises is taken as flat, so this is never above
                the base.

    catastrophic    the spike has no end although more than ``settle`` steps follow its peak, or
                    the loss is not finite any more before it ends or had time to settle.
    malignant       the loss came back, but not to what it was: after > base + tolerance.
    benign          it is lower than it would have been: after < expected - tolerance.
    neutral         neither: it came back to where it was or would have been by now.

A spike so near to the end of the record that the loss had no time to settle has no kind. Neither
has the last of a table without padding once it has ended: the table may have been too small, and
the next trigger, which ends its aftermath, is not known. So the table must hold all spikes and an
entry of padding. The trend of a loss that falls fast is soon below anything the run can reach,
which makes "benign" the most demanding of the four. This is NumPy, for records that lie in memory.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from phenodl.spikes.detect import ring_down

KINDS = ("neutral", "benign", "malignant", "catastrophic")
NEUTRAL, BENIGN, MALIGNANT, CATASTROPHIC = range(4)
UNKNOWN = -1

Level = Float[np.ndarray, " steps"]


class Aftermath(NamedTuple):
    """The kind of each spike, and the levels that decided it, in decades.

    Attributes:
        kind: place in :data:`KINDS`; -1 for padding, and where the record, or the table, ends too
            early.
        base: the level before the spike; NaN for padding.
        expected: by the trend before the spike, at the time of ``after``; NaN where that is.
        after: the level that the loss came back to; NaN where it did not, or the record or the
            table ends too early.
    """

    kind: Int[np.ndarray, "*run spike"]
    base: Float[np.ndarray, "*run spike"]
    expected: Float[np.ndarray, "*run spike"]
    after: Float[np.ndarray, "*run spike"]


def aftermath(
    losses: Float[np.ndarray, " steps"],
    trigger: Int[np.ndarray, " spike"],
    peak: Int[np.ndarray, " spike"],
    end: Int[np.ndarray, " spike"],
    *,
    b1: float = 0.9,
    floor: float = 0.0,
    start: int = 50,
    settle: int = 200,
    history: int = 200,
    tolerance: float = 0.1,
) -> Aftermath:
    """The kind of each spike of one run.

    Args:
        losses: of the steps 0, 1, 2, ..., as the detector saw them.
        trigger: step at which each spike is triggered, in order; entries below 0 are padding, of
            which there should be one at least, see above. These three are from
            :func:`phenodl.spikes.detect.detect`.
        peak: step of its highest loss.
        end: step at which it ends, -1 for one that does not.
        b1: decay of the optimizer's first moment, as given to the detector, like the next two.
        floor: the lowest loss there can be.
        start: the step at which the detector began.
        settle: steps that the loss is given to come back.
        history: steps before the base through which the trend is laid.
        tolerance: decades within which two levels are the same.

    Raises:
        ValueError: if ``b1`` is not in [0, 1), or ``settle`` or ``history`` is below 1.

    Example:
        >>> losses = np.ones(500)
        >>> losses[100:110] = 100.0
        >>> losses[110:] = 0.5
        >>> found = aftermath(losses, *np.array([[100, -1], [100, -1], [129, -1]]))
        >>> KINDS[found.kind[0]], float(found.after[0].round(2))
        ('benign', -0.3)
    """
    if min(settle, history) < 1:
        raise ValueError(f"settle and history must be at least 1; they are {settle} and {history}")
    level = _level(losses, ring_down(b1), floor)
    diverged = len(level) < len(losses)
    rows, begin = [], start
    for place, triggered in enumerate(trigger):
        if triggered < 0:
            rows.append((UNKNOWN, np.nan, np.nan, np.nan))
            continue
        lowest = begin + int(np.argmin(level[begin:triggered]))
        base, slope = level[lowest], _slope(level[max(begin, lowest - history) : lowest + 1])
        begin = int(end[place])
        full = place + 1 == len(trigger)
        following = -1 if full else trigger[place + 1]
        if begin < 0:
            lost = diverged or len(level) - 1 - peak[place] > settle
            rows.append((CATASTROPHIC if lost else UNKNOWN, base, np.nan, np.nan))
        elif full:
            rows.append((UNKNOWN, base, np.nan, np.nan))
        elif following < 0 and begin + settle > len(level):
            rows.append((CATASTROPHIC if diverged else UNKNOWN, base, np.nan, np.nan))
        else:
            stop = begin + settle if following < 0 else min(begin + settle, following)
            settled = begin + int(np.argmin(level[begin:stop]))
            after, expected = level[settled], base + slope * (settled - lowest)
            rows.append((_judge(after, base, expected, tolerance), base, expected, after))
    return _table(rows, trigger.shape)


def aftermath_of_runs(
    losses: Float[np.ndarray, "run steps"],
    trigger: Int[np.ndarray, "run spike"],
    peak: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    *,
    b1: float = 0.9,
    floor: float = 0.0,
    start: int = 50,
    settle: int = 200,
    history: int = 200,
    tolerance: float = 0.1,
) -> Aftermath:
    """The same for each run, the arguments with a leading axis of runs.

    Returns:
        Arrays of shape (run, spike), also where there is none of either.
    """
    rules = {"settle": settle, "history": history, "tolerance": tolerance}
    found = [
        np.stack(aftermath(*run, b1=b1, floor=floor, start=start, **rules), axis=-1)
        for run in zip(losses, trigger, peak, end, strict=True)
    ]
    return _table(found, trigger.shape)


def _table(rows: Sequence[ArrayLike], shape: tuple[int, ...]) -> Aftermath:
    """From a row of four numbers for each spike."""
    table = np.array(rows, float).reshape(*shape, len(Aftermath._fields))
    kind, *levels = np.moveaxis(table, -1, 0)
    return Aftermath(kind.astype(int), *levels)


def _level(losses: Float[np.ndarray, " steps"], window: int, floor: float) -> Level:
    """The detector's level, up to the first loss that is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(losses))
    finite = losses[: bad[0]] if bad.size else losses
    if finite.size == 0:
        return finite
    logs = np.log10(np.maximum(finite - floor, np.finfo(losses.dtype).tiny))
    padded = np.concatenate([np.full(window - 1, -np.inf), logs])
    return np.lib.stride_tricks.sliding_window_view(padded, window).max(axis=-1)


def _slope(level: Level) -> float:
    """Of the straight line through the level, per step, unless it rises."""
    if len(level) < 2:
        return 0.0
    return min(float(np.polyfit(np.arange(len(level)), level, deg=1)[0]), 0.0)


def _judge(after: float, base: float, expected: float, tolerance: float) -> int:
    if after > base + tolerance:
        return MALIGNANT
    return BENIGN if after < expected - tolerance else NEUTRAL
