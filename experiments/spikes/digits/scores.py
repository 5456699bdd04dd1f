"""Spikes and alarms of ``spikes-digits``: which signal foretells the spikes, and how well."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from phenodl.spikes import alarms, decay
from phenodl.spikes.alarms import Counts
from phenodl.spikes.detect import Spikes, detect

SIGNALS = {
    "curvature_a": "A: Ĥ along the gradient",
    "curvature_b": "B: the same, symmetric form",
    "curvature_c": "C: Ĥ along the update",
    "lambda_max_adam": "λ_max(Ĥ)",
}
"""The curvatures that are held against 2/η."""

START = 50
"""The detector's first step; the alarms of earlier steps can be counted as false or left out."""

WINDOW = 10
"""Steps before an alarm over which the change of the second moment is measured."""


class Foresight(NamedTuple):
    """How one signal foretells the spikes.

    Attributes:
        counts: of its alarms, per seed.
        chance: of the same alarms at random places, per seed, summed over all shifts.
        leads: steps from alarm to trigger, (seed, spike); NaN where there is no such spike.
    """

    counts: Counts
    chance: Counts
    leads: Float[np.ndarray, "seed spike"]


def find_spikes(loss: xr.DataArray, rise: float, b1: float) -> Spikes:
    """The spikes of all runs, as NumPy arrays along (seed, spike)."""
    search = functools.partial(detect, rise=rise, b1=b1, start=START)
    found, _ = jax.jit(jax.vmap(search))(loss.transpose("seed", "step").values)
    return jax.tree.map(np.asarray, found)


def foresight(
    runs: xr.Dataset, signal: str, spikes: Spikes, *, since: int = 0, shifts: int
) -> Foresight:
    """Scores the alarms of one signal.

    Args:
        runs: with the signal and ``threshold``, along seed and step.
        signal: its name.
        spikes: from :func:`find_spikes`.
        since: alarms are read from this step on.
        shifts: random shifts for the chance level.
    """
    above = (runs[signal] > runs.threshold).transpose("seed", "step").values[:, since:]
    trigger, end = (np.where(at < 0, -1, at - since) for at in (spikes.trigger, spikes.end))
    chance = alarms.shifted(above, trigger, end, shifts=shifts, rng=np.random.default_rng(0))
    leads = [
        alarms.lead_times(alarms.alarms(row), at) for row, at in zip(above, trigger, strict=True)
    ]
    return Foresight(
        counts=alarms.score(above, trigger, end),
        chance=Counts(*(column.sum(axis=0) for column in chance)),
        leads=np.stack(leads),
    )


def precision(counts: Counts, seeds: np.ndarray) -> float:
    """The precision over some of the seeds, for a bootstrap over them."""
    return float(alarms.precision(Counts(*(column[seeds] for column in counts))))


def decay_factors(runs: xr.Dataset, b2: float) -> Float[np.ndarray, "seed layer"]:
    """The fitted decay of v per step where the gradient adds little to it; NaN without such steps.

    Args:
        runs: with ``squared_gradient`` and ``second_moment`` along seed, step and layer.
        b2: decay of the second moment.
    """
    squared, corrected = (
        np.moveaxis(runs[name].transpose("seed", "step", ...).values.astype(float), 1, 2)
        for name in ("squared_gradient", "second_moment")
    )
    v = decay.uncorrected(corrected, b2)
    factors = [decay.fit(squared[place], v[place]).factor for place in np.ndindex(v.shape[:2])]
    return np.reshape(factors, v.shape[:2])


def falls_before_alarm(runs: xr.Dataset, found: Foresight, spikes: Spikes) -> np.ndarray:
    """Per foreseen spike, whether v̂ of every layer has fallen in the steps before the alarm."""
    seed, spike = np.nonzero(found.leads >= 0)
    alarm = spikes.trigger[seed, spike] - found.leads[seed, spike].astype(int)
    late = alarm >= WINDOW
    seed, alarm = seed[late], alarm[late]
    v = runs.second_moment.transpose("seed", "step", ...).values
    return (v[seed, alarm] < v[seed, alarm - WINDOW]).all(axis=-1)
