"""Claims and tables that ``spikes-sine`` and ``spikes-highdim`` have in common."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap
from experiments.spikes import ledger
from experiments.spikes.ledger import KEYS, SHORT
from experiments.spikes.scores import Foresight, find_stages
from phenodl.spikes import alarms, kinds
from phenodl.spikes.alarms import Counts
from phenodl.spikes.detect import Spikes
from phenodl.spikes.stages import STAGES


def claims(
    name: str, found: Mapping[str, Foresight], *, recall: float, precision: float
) -> list[Claim]:
    """A, along the gradient, announces all spikes; C, along the update, is nearly always right.

    Args:
        name: of the experiment, or its part, that the claims are of.
        found: the scores of ``curvature_a`` and ``curvature_c``.
        recall: the least that is claimed of A.
        precision: likewise.
    """
    along_gradient, along_update = found["curvature_a"], found["curvature_c"]
    return [
        ledger.recall(name, "curvature_a", along_gradient, Target(">=", recall)),
        recall_above_chance(name, "curvature_a", along_gradient),
        ledger.precision_of(name, "curvature_a", along_gradient, Target(">=", precision)),
        ledger.above_chance(name, "curvature_a", along_gradient),
        ledger.lead(name, "curvature_a", along_gradient, Target(">=", 4)),
        ledger.precision_of(name, "curvature_c", along_update, Target(">=", 0.95)),
        ledger.above_chance(name, "curvature_c", along_update),
    ]


def recall_above_chance(name: str, signal: str, found: Foresight) -> Claim:
    """Recall against that of the same alarms at other times."""

    def gain(seeds: np.ndarray) -> float:
        counts, chance = (
            Counts(*(column[seeds] for column in each)) for each in (found.counts, found.chance)
        )
        return float(alarms.recall(counts) - alarms.recall(chance))

    seeds = np.arange(len(found.leads))
    return Claim(
        f"{name}/{KEYS[signal]}-recall-chance",
        f"Alarms of {SHORT[signal]} reach more spikes than the same alarms at random times: "
        "difference of recall",
        "circular shifts of the alarms",
        *bootstrap(seeds, gain),
        len(seeds),
        Target(">", 0),
    )


def stage_rows(runs: xr.Dataset, spikes: Spikes) -> list[dict[str, Any]]:
    """How long each of the five stages lasts, a row per stage.

    Args:
        runs: with loss, threshold, ``curvature_a`` and the moments of the layers.
        spikes: of the runs.
    """
    durations = find_stages(runs, spikes).durations[np.asarray(spikes.trigger) >= 0]
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
