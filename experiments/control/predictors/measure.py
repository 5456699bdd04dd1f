"""How well each predictor foretells the spikes of one training."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments.control.names import TRANSFORMERS
from experiments.control.predictors.catalogue import predictors
from experiments.control.predictors.config import Config
from experiments.control.tasks import task
from experiments.spikes.scores import Foresight, each_step, find_spikes, foresight
from phenodl.spikes import alarms
from phenodl.spikes.detect import Spikes

LEAD_SHIFTS = 20
"""Shifts for the lead by chance, whose median varies little."""


class Scored(NamedTuple):
    """One training with its spikes and its predictors.

    Attributes:
        runs: ``loss``, and the signals, each in units of its predictor's threshold.
        spikes: along (seed, spike).
        width: steps over which the signals are averaged before they alarm.
        floor: the lowest loss there can be.
        found: how each predictor foretells the spikes.
        leads_by_chance: steps from alarm to trigger of each predictor's alarms at random times.
    """

    runs: xr.Dataset
    spikes: Spikes
    width: int
    floor: float
    found: Mapping[str, Foresight]
    leads_by_chance: Mapping[str, Float[np.ndarray, " lead"]]


def score(config: Config, name: str, runs: xr.Dataset) -> Scored:
    """Holds all predictors against the spikes of one training.

    Args:
        config: of the experiment.
        name: of the training.
        runs: ``loss`` and the predictors' signals, along seed and step.
    """
    training = task(name)
    width = training.window
    rise = config.minibatch_rise if name in TRANSFORMERS else config.rise
    watching = predictors(config.predictors, name)
    signals = {each: runs[each] / predictor.threshold for each, predictor in watching.items()}
    scaled = runs[["loss"]].assign({"threshold": xr.ones_like(runs.loss)} | signals)
    with jax.enable_x64(training.x64):
        spikes = find_spikes(
            runs.loss, rise, training.optimizer.b1, floor=training.floor, width=width
        )
        found = {
            each: foresight(scaled, each, spikes, shifts=config.shifts, width=width)
            for each in watching
        }
        by_chance = {
            each: shifted_leads(each_step(scaled, each, width) > 1, spikes) for each in watching
        }
    return Scored(scaled, spikes, width, training.floor, found, by_chance)


def shifted_leads(
    above: np.ndarray, spikes: Spikes, shifts: int = LEAD_SHIFTS
) -> Float[np.ndarray, " lead"]:
    """The leads of the same alarms at random times, over the spikes that they then reach.

    A signal that is often above its threshold leads by chance.

    Args:
        above: whether a signal exceeds its threshold, (seed, step).
        spikes: of the same runs.
        shifts: how many random turns of each run.
    """
    rng = np.random.default_rng(0)
    leads = [
        alarms.lead_times(alarms.alarms(np.roll(row, turn)), trigger)
        for row, trigger in zip(above, spikes.trigger, strict=True)
        for turn in rng.integers(1, len(row), size=shifts)
    ]
    pooled = np.concatenate(leads)
    return pooled[np.isfinite(pooled)]
