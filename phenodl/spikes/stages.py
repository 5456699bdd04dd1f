"""The five stages of a loss spike (SPIKE, arXiv 2506.04805), and the steps that part them.

The stages are the paper's; the rule for each border is this module's. Every spike that the detector
lists has six borders, each the first step of the stage after it:

    start       the first stage, *stable decrease*, begins where the spike before ended, or at
                step 0.
    decoupled   the *decay of the preconditioner* begins at the first step, not after the crossing,
                at which g² is under a tenth (``ratio``) of v̂ and stays so for ``lasting`` steps.
    crossing    the *onset*: the curvature passes its threshold. It is the beginning of the alarm
                that announces the spike, in the sense of :mod:`phenodl.spikes.alarms`: gaps of up
                to ``gap`` steps closed, the trigger reached within ``horizon`` steps, the latest
                such alarm. What stands above the threshold since the spike before counts from the
                start.
    growth      the *growth of the preconditioner's second moment* begins as v̂ rises from its lowest
                value between the crossing (without one, the trigger) and the peak.
    back        the *decay of the loss* begins at the first step since the growth began (without
                growth, since the crossing) at which the alarm is over: the curvature is back under
                its threshold. Of a run that diverges it never is: a curvature that is not finite to
                the end of the record did not come back.
    end         the detector's: the loss has lost half of its rise in decades.

A border that never comes is -1, and so are the durations that it bounds; the others never decrease
in this order. A stage may last 0 steps: right after a spike g² is often under v̂ / 10 already.

Which curvature and whose moments is the caller's choice; for a whole network, the sums of g² and v̂
over all layers speak of the largest of them. Mini-batch records are smoothed first, see
:mod:`phenodl.spikes.sustained`. This is NumPy, for records that lie in memory.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from phenodl.spikes import alarms, decoupling

STAGES = (
    "stable decrease",
    "decay of the preconditioner",
    "onset",
    "growth of the preconditioner",
    "decay of the loss",
)

Signal = Float[np.ndarray, " steps"]
Signals = Float[np.ndarray, "run steps"]


class Stages(NamedTuple):
    """The borders of the stages of each spike, in steps; -1 for what never comes.

    Attributes:
        start: the first stage begins.
        decoupled: g² falls far under v̂, and the second stage begins.
        crossing: the curvature passes its threshold, and the third begins.
        growth: v̂ begins to grow, and the fourth begins.
        back: the curvature is back under its threshold, and the fifth begins.
        end: the spike is over.
    """

    start: Int[np.ndarray, "*run spike"]
    decoupled: Int[np.ndarray, "*run spike"]
    crossing: Int[np.ndarray, "*run spike"]
    growth: Int[np.ndarray, "*run spike"]
    back: Int[np.ndarray, "*run spike"]
    end: Int[np.ndarray, "*run spike"]

    @property
    def borders(self) -> Int[np.ndarray, "*run spike 6"]:
        """All borders, in order along the last axis."""
        return np.stack(self, axis=-1)

    @property
    def durations(self) -> Int[np.ndarray, "*run spike 5"]:
        """Steps that each of the :data:`STAGES` lasts; -1 where one of its borders never comes."""
        borders = self.borders
        known = (borders[..., :-1] >= 0) & (borders[..., 1:] >= 0)
        return np.where(known, np.diff(borders), -1)


def stages(
    trigger: Int[np.ndarray, " spike"],
    peak: Int[np.ndarray, " spike"],
    end: Int[np.ndarray, " spike"],
    *,
    curvature: Signal,
    threshold: Signal,
    squared_gradient: Signal,
    second_moment: Signal,
    ratio: float = 0.1,
    lasting: int = 1,
    gap: int = 10,
    horizon: int = 30,
) -> Stages:
    """The stages of each spike of one run.

    Args:
        trigger: step at which each spike is triggered, in order; entries below 0 are padding. These
            three are from :func:`phenodl.spikes.detect.detect`.
        peak: step of its highest loss.
        end: step at which it ends, -1 for one that does not.
        curvature: a preconditioned curvature; NaN, where it was not measured, is not above, and
            to the end of the record it is not back either.
        threshold: what the curvature must stay below, 2/η.
        squared_gradient: g² summed over some or all parameters.
        second_moment: v̂ summed over the same ones.
        ratio: what counts as far below.
        lasting: steps in a row for which g² must stay so.
        gap: the longest run of quiet steps inside an alarm.
        horizon: steps after an alarm in which a spike still counts as announced.

    Returns:
        One entry per spike; -1 throughout for padding.

    Example:
        >>> steps = np.arange(100)
        >>> found = stages(
        ...     *np.array([[52], [56], [70]]),
        ...     curvature=np.where((steps >= 45) & (steps < 57), 3.0, 1.0),
        ...     threshold=np.full(100, 2.0),
        ...     squared_gradient=np.where((steps < 20) | (steps >= 50), 1.0, 0.0),
        ...     second_moment=1.0 + abs(steps - 49) / 10,
        ... )
        >>> found.borders.tolist(), found.durations.tolist()
        ([[0, 20, 45, 50, 57, 70]], [[20, 25, 5, 7, 13]])
    """
    rows, start = [], 0
    for triggered, highest, over in zip(trigger, peak, end, strict=True):
        if triggered < 0:
            rows.append([-1] * len(Stages._fields))
            continue
        alarm = alarms.alarms(curvature[start:] > threshold[start:], gap)
        lead = alarms.lead_times(alarm, np.array([triggered - start]), horizon)[0]
        crossing = triggered - int(lead) if np.isfinite(lead) else -1
        latest = triggered if crossing < 0 else crossing
        decoupled = decoupling.onset(
            squared_gradient, second_moment, ratio, since=start, lasting=lasting
        )
        growth = _growth(second_moment, latest, int(highest))
        quiet = -1 if crossing < 0 else _quiet(curvature, alarm, start, max(crossing, growth))
        final = over if over >= 0 else len(curvature) - 1
        rows.append(
            [
                start,
                decoupled if decoupled <= latest else -1,
                crossing,
                growth,
                quiet if quiet <= final else -1,
                over,
            ]
        )
        start = over
    return Stages(*np.array(rows, int).reshape(-1, len(Stages._fields)).T)


def stages_of_runs(
    trigger: Int[np.ndarray, "run spike"],
    peak: Int[np.ndarray, "run spike"],
    end: Int[np.ndarray, "run spike"],
    *,
    curvature: Signals,
    threshold: Signals,
    squared_gradient: Signals,
    second_moment: Signals,
    ratio: float = 0.1,
    lasting: int = 1,
    gap: int = 10,
    horizon: int = 30,
) -> Stages:
    """The same for each run, the arguments with a leading axis of runs.

    Returns:
        Arrays of shape (run, spike), also where there is none of either.
    """
    signals = {
        "curvature": curvature,
        "threshold": threshold,
        "squared_gradient": squared_gradient,
        "second_moment": second_moment,
    }
    rules = {"ratio": ratio, "lasting": lasting, "gap": gap, "horizon": horizon}
    found = [
        stages(*spikes, **{name: each[run] for name, each in signals.items()}, **rules).borders
        for run, spikes in enumerate(zip(trigger, peak, end, strict=True))
    ]
    borders = np.array(found, int).reshape(*trigger.shape, len(Stages._fields))
    return Stages(*np.moveaxis(borders, -1, 0))


def _growth(second_moment: Signal, first: int, last: int) -> int:
    """The step after the (last) lowest value; -1 if there is none within the bounds."""
    backwards = second_moment[first : last + 1][::-1]
    after = int(np.argmin(np.where(np.isnan(backwards), np.inf, backwards)))
    return last - after + 1 if after > 0 else -1


def _quiet(curvature: Signal, alarm: alarms.Alarms, start: int, since: int) -> int:
    """The first step from ``since`` on in no alarm, where the alarms count from ``start``.

    Returns:
        -1 if the curvature is never finite again.
    """
    inside = (start + alarm.first <= since) & (since <= start + alarm.last)
    quiet = start + int(alarm.last[inside][0]) + 1 if inside.any() else since
    return quiet if np.isfinite(curvature[quiet:]).any() else -1
