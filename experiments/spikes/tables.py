"""Tables that the experiments on loss spikes have in common."""

from typing import Any

import numpy as np
import xarray as xr

from phenodl.spikes import kinds
from phenodl.spikes.detect import Spikes
from phenodl.spikes.stages import STAGES, Stages


def stage_rows(found: Stages) -> list[dict[str, Any]]:
    """How long each of the five stages lasts, a row per stage, over the spikes that have it."""
    durations = found.durations.reshape(-1, len(STAGES))
    rows = []
    for stage, steps in zip(STAGES, durations.T, strict=True):
        known = steps[steps >= 0]
        quartiles = np.quantile(known, [0.25, 0.5, 0.75]) if known.size else [np.nan] * 3
        values = (float(each) for each in quartiles)
        names = ("lower quartile of steps", "median steps", "upper quartile of steps")
        rows.append({"stage": stage, **dict(zip(names, values, strict=True)), "spikes": known.size})
    return rows


def kind_rows(runs: xr.Dataset, spikes: Spikes, b1: float) -> list[dict[str, Any]]:
    """What the spikes leave behind, a row per kind.

    Args:
        runs: with the loss along seed and step.
        spikes: of the runs.
        b1: decay of the first moment.
    """
    losses = runs.loss.transpose("seed", "step").values
    trigger, peak, end = (np.asarray(at) for at in (spikes.trigger, spikes.peak, spikes.end))
    found = [np.zeros(0)]
    for run in np.flatnonzero(trigger[:, 0] >= 0):
        after = kinds.aftermath(losses[run], trigger[run], peak[run], end[run], b1=b1)
        found.append(after.kind[trigger[run] >= 0])
    kind = np.concatenate(found)
    names = (*kinds.KINDS, "too near to the end to tell")
    numbers = (*range(len(kinds.KINDS)), kinds.UNKNOWN)
    return [
        {"kind": name, "spikes": int((kind == number).sum())}
        for name, number in zip(names, numbers, strict=True)
    ]
