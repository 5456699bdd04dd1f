"""What the runs of ``spikes-language`` show: spikes, the alarms before them, other decays."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

from experiments.spikes.language.config import Config
from experiments.spikes.language.task import Task
from experiments.spikes.scores import START, WINDOW, Foresight, each_step, find_spikes, foresight
from phenodl.spikes.detect import Spikes

SIGNALS = {"curvature_b": "B", "gradient": "gradient norm"}
"""What is held against a threshold, each averaged over 10 steps."""

MEMORY = 200
"""Steps of the trailing median that the gradient norm is compared with."""

LIMIT = 2.0
"""The gradient norm sounds the alarm above this many medians. Chosen, like ``MEMORY``, on the
tuning seeds: half as high an excess gives false alarms there."""


class Outcome(NamedTuple):
    """What was found.

    Attributes:
        spikes: of the runs with the configuration's own β2.
        signals: B and the gradient norm at every step, in units of their thresholds.
        found: their scores.
        heights: of the highest spike of each run in decades, by β2; 0 without one.
    """

    spikes: Spikes
    signals: xr.Dataset
    found: dict[str, Foresight]
    heights: dict[float, Float[np.ndarray, " seed"]]


def measure(
    task: Task, config: Config, runs: xr.Dataset, others: xr.Dataset | None = None
) -> Outcome:
    """Looks for spikes and scores the alarms.

    Args:
        task: that the runs learned.
        config: of the experiment.
        runs: with the configuration's own β2.
        others: the losses with other ones, along ``b2`` too.
    """

    def spikes_of(loss: xr.DataArray) -> Spikes:
        b1 = config.optimizer.b1
        return find_spikes(loss, config.rise, b1, floor=task.floor, width=WINDOW)

    spikes = spikes_of(runs.loss)
    signals = in_thresholds(runs)
    score = {
        name: foresight(signals, name, spikes, since=START, shifts=config.shifts)
        for name in SIGNALS
    }
    heights = {config.optimizer.b2: highest(spikes)}
    if others is not None:
        for b2 in others.b2.values:
            heights[round(float(b2), 6)] = highest(spikes_of(others.loss.sel(b2=b2)))
    return Outcome(spikes, signals, score, heights)


def in_thresholds(runs: xr.Dataset) -> xr.Dataset:
    """B and the gradient norm, averaged over 10 steps, in units of their thresholds."""
    ratio = each_step(runs, "curvature_b", WINDOW) / each_step(runs, "threshold")
    values = {"curvature_b": ratio, "gradient": over_median(each_step(runs, "grad_norm")) / LIMIT}
    along = ("seed", "step")
    return xr.Dataset(
        {name: (along, value) for name, value in values.items()}
        | {"loss": runs.loss.transpose(*along), "threshold": (along, np.ones_like(ratio))},
        {"seed": runs.seed, "step": runs.step},
    )


def over_median(norms: Float[np.ndarray, "seed step"]) -> Float[np.ndarray, "seed step"]:
    """The mean of the last 10 values over the median of the last 200; fewer at the beginning.

    Example:
        >>> over_median(np.concatenate([np.ones(300), np.full(10, 3.0)])[None])[0, [0, 299, 309]]
        array([1., 1., 3.])
    """

    def trailing(width: int) -> Float[np.ndarray, "seed step width"]:
        padded = np.pad(norms, ((0, 0), (width - 1, 0)), constant_values=np.nan)
        return sliding_window_view(padded, width, axis=1)

    return np.nanmean(trailing(WINDOW), axis=-1) / np.nanmedian(trailing(MEMORY), axis=-1)


def highest(spikes: Spikes) -> Float[np.ndarray, " seed"]:
    """Decades of the highest spike of each run; 0 without one."""
    return np.nanmax(spikes.height, axis=1, initial=0)


def first_leads(found: Foresight, spikes: Spikes) -> Float[np.ndarray, " seed"]:
    """Steps from alarm to trigger of each run's first spike; -1 unforeseen, NaN without a spike."""
    leads = np.where(np.isnan(found.leads[:, 0]), -1.0, found.leads[:, 0])
    return np.where(spikes.trigger[:, 0] >= 0, leads, np.nan)


def foretold(found: Foresight, spikes: Spikes, height: float) -> Bool[np.ndarray, " high"]:
    """Whether an alarm precedes the first spike of so many decades, and no alarm of the run lies.

    One entry per run that has such a spike.
    """
    high = (spikes.trigger >= 0) & (spikes.height >= height)
    seed = np.flatnonzero(high.any(axis=1))
    first = high[seed].argmax(axis=1)
    return (found.leads[seed, first] > 0) & (found.counts.false[seed] == 0)


def seed_rows(outcome: Outcome, seeds: np.ndarray) -> list[dict[str, Any]]:
    """A row per run: its first spike and what foretold it."""
    spikes, own = outcome.spikes, next(iter(outcome.heights.values()))
    leads = {name: first_leads(found, spikes) for name, found in outcome.found.items()}
    return [
        {
            "seed": int(seed),
            "spikes": int(spikes.count[place]),
            "trigger": int(spikes.trigger[place, 0]),
            "peak": int(spikes.peak[place, 0]),
            "decades of the highest": float(own[place]),
            **{f"lead of {SIGNALS[name]}": float(each[place]) for name, each in leads.items()},
            **{
                f"false alarms of {SIGNALS[name]}": int(found.counts.false[place])
                for name, found in outcome.found.items()
            },
        }
        for place, seed in enumerate(seeds)
    ]


def decay_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A row per β2: how high its spikes are."""
    return [
        {
            "β2": b2,
            "seeds": len(heights),
            "seeds that spike": int((heights > 0).sum()),
            "decades of the highest, median": float(np.median(heights)),
            "largest": float(heights.max()),
        }
        for b2, heights in outcome.heights.items()
    ]
