"""Where the growth towards each spike begins: there runs leave their control."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from experiments.spikes.scores import START
from phenodl.spikes import alarms
from phenodl.spikes.detect import Spikes


class Approaches(NamedTuple):
    """The way of the preconditioned curvature to its threshold before each spike, in steps.

    Attributes:
        trough: the curvature is lowest since the end of the last spike; -1 where there is none.
        crossing: the alarm begins that reaches the trigger; -1 where there is none.
        trigger: of the spike; -1 for padding and for a spike without an approach.
        end: of the spike; the last step of the record if it does not end.
        height: of the spike, in decades; NaN for padding.
    """

    trough: Int[np.ndarray, "seed spike"]
    crossing: Int[np.ndarray, "seed spike"]
    trigger: Int[np.ndarray, "seed spike"]
    end: Int[np.ndarray, "seed spike"]
    height: Float[np.ndarray, "seed spike"]

    def highest(self) -> "Approaches":
        """The highest spike of each seed that has one, one entry per seed."""
        best = np.argmax(np.where(self.trigger < 0, -np.inf, self.height), axis=1)
        return Approaches(*(column[np.arange(len(best)), best] for column in self))


def approaches(ratio: Float[np.ndarray, "seed measured"], every: int, spikes: Spikes) -> Approaches:
    """The approach of every spike that an alarm foretells which began after the last spike.

    Args:
        ratio: the curvature in units of its threshold, at steps 0, every, 2 every, ...
        every: steps between two measurements.
        spikes: of the same runs.
    """
    last = ratio.shape[1] * every - 1
    end = np.where((spikes.end < 0) & (spikes.trigger >= 0), last, spikes.end)
    trough, crossing = np.full((2, *spikes.trigger.shape), -1)
    for seed, row in enumerate(ratio):
        found = alarms.alarms(np.repeat(row > 1, every))
        leads = alarms.lead_times(found, np.asarray(spikes.trigger[seed]))
        calm = START
        for spike in np.flatnonzero(spikes.trigger[seed] >= 0):
            if np.isfinite(leads[spike]):
                begin = spikes.trigger[seed, spike] - int(leads[spike])
                first = -(-calm // every)  # the first measurement after the last spike
                if begin // every > first:
                    lowest = first + int(np.argmin(row[first : begin // every]))
                    trough[seed, spike], crossing[seed, spike] = every * lowest, begin
            calm = end[seed, spike]
    reached = trough >= 0
    return Approaches(
        trough,
        crossing,
        np.where(reached, spikes.trigger, -1),
        np.where(reached, end, -1),
        np.where(reached, spikes.height, np.nan),
    )
