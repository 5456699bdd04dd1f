"""Spikes and alarms of trained networks: which signal foretells the spikes, and how well."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from phenodl.spikes import alarms, decoupling, roc
from phenodl.spikes.alarms import Counts
from phenodl.spikes.detect import Spikes, detect, trailing_mean
from phenodl.spikes.stages import Stages, stages_of_runs

SIGNALS = {
    "curvature_a": "A: Ĥ along the gradient",
    "curvature_b": "B: along the gradient, symmetric form",
    "curvature_c": "C: Ĥ along the update",
    "lambda_max_adam": "λ_max(Ĥ)",
}
"""The curvatures that are held against 2/η."""

START = 50
"""The detector's first step; the alarms of earlier steps can be counted as false or left out."""

AUC_SHIFTS = 20
"""Shifts for the area by chance, which varies less than a precision."""

WINDOW = 10
"""Steps before an alarm over which the change of the second moment is measured, and over which
what is measured on mini-batches is averaged."""


class Foresight(NamedTuple):
    """How one signal foretells the spikes.

    Attributes:
        counts: of its alarms, per seed.
        chance: of the same alarms at random places, per seed, summed over all shifts.
        leads: steps from alarm to trigger, (seed, spike); NaN where there is no such spike.
        auc: how well the signal's height tells the steps before a trigger from others, per seed.
        chance_auc: the same of the signal at random places, the mean over the shifts.
    """

    counts: Counts
    chance: Counts
    leads: Float[np.ndarray, "seed spike"]
    auc: Float[np.ndarray, " seed"]
    chance_auc: Float[np.ndarray, " seed"]


def find_spikes(
    loss: xr.DataArray, rise: float, b1: float, *, floor: float = 0.0, width: int = 1
) -> Spikes:
    """The spikes of all runs, as NumPy arrays along (seed, spike).

    Args:
        loss: along seed and step.
        rise: decades that make a spike.
        b1: decay of the first moment.
        floor: the lowest loss there can be.
        width: steps over which a loss of mini-batches is averaged first.
    """
    found = _search(loss.transpose("seed", "step").values, rise, b1, floor, width)
    return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=1)
def _trailing_means(
    values: Float[jax.Array, "seed step"], width: int
) -> Float[jax.Array, "seed step"]:
    return jax.vmap(functools.partial(trailing_mean, width=width))(values)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _search(
    losses: Float[jax.Array, "seed step"], rise: float, b1: float, floor: float, width: int
) -> Spikes:
    """All runs; calls with equal settings and shapes share a compilation."""

    def search(losses: jax.Array) -> Spikes:
        smooth = trailing_mean(losses, width) if width > 1 else losses
        return detect(smooth, rise=rise, b1=b1, start=START, floor=floor)[0]

    return jax.vmap(search)(losses)


def each_step(runs: xr.Dataset, signal: str, width: int = 1) -> Float[np.ndarray, "seed step"]:
    """A signal at every step: what is measured every few steps holds until the next time.

    Args:
        runs: with the signal along seed and its own steps, and ``loss`` along all steps.
        signal: its name.
        width: steps over which it is averaged, back from the present one.
    """
    steps = runs.sizes["step"]
    along = next(dim for dim in runs[signal].dims if str(dim).startswith("step"))
    values = runs[signal].transpose("seed", along).values
    every = 1 if along == "step" else int(str(along).removeprefix("step_"))
    count = max(1, width // every)
    if count > 1:
        values = np.asarray(_trailing_means(values, count))
    return np.repeat(values, every, axis=1)[:, :steps]


def foresight(
    runs: xr.Dataset,
    signal: str,
    spikes: Spikes,
    *,
    since: int = 0,
    shifts: int = 200,
    width: int = 1,
) -> Foresight:
    """Scores the alarms of one signal.

    Args:
        runs: with the signal and ``threshold``, along seed and step.
        signal: its name.
        spikes: from :func:`find_spikes`.
        since: alarms are read from this step on.
        shifts: random shifts for the chance level.
        width: steps over which the signal is averaged first.
    """
    limit = runs.threshold.transpose("seed", "step").values
    curve = each_step(runs, signal, width)[:, since:]
    above = curve > limit[:, since:]
    trigger, end = (np.where(at < 0, -1, at - since) for at in (spikes.trigger, spikes.end))
    rng = np.random.default_rng(0)
    chance = alarms.shifted(above, trigger, end, shifts=shifts, rng=rng)
    turned = min(shifts, AUC_SHIFTS)
    leads = [
        alarms.lead_times(alarms.alarms(row), at) for row, at in zip(above, trigger, strict=True)
    ]
    return Foresight(
        counts=alarms.score(above, trigger, end),
        chance=Counts(*(column.sum(axis=0) for column in chance)),
        leads=np.stack(leads),
        auc=roc.auc(curve, trigger, end),
        chance_auc=roc.shifted_auc(curve, trigger, end, shifts=turned, rng=rng).mean(axis=0),
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
    squared, corrected = _moments(runs)
    pairs = zip(squared, corrected, strict=True)
    return np.stack([decoupling.by_layer(*pair, b2).factor for pair in pairs])


def find_stages(
    runs: xr.Dataset, spikes: Spikes, *, signal: str = "curvature_a", width: int = 1
) -> Stages:
    """The stages of all spikes, along (seed, spike), by g² and v̂ of all layers together.

    Args:
        runs: with ``threshold``, the signal, and the moments of the layers.
        spikes: from :func:`find_spikes`.
        signal: the curvature that crosses.
        width: steps over which it is averaged first.
    """
    squared, corrected = (moment.sum(axis=-1) for moment in _moments(runs))
    return stages_of_runs(
        *(np.asarray(at) for at in (spikes.trigger, spikes.peak, spikes.end)),
        curvature=each_step(runs, signal, width),
        threshold=runs.threshold.transpose("seed", "step").values,
        squared_gradient=squared,
        second_moment=corrected,
    )


def _moments(runs: xr.Dataset) -> list[Float[np.ndarray, "seed step layer"]]:
    """The squared gradient and v̂ of all layers."""
    names = ("squared_gradient", "second_moment")
    return [runs[name].transpose("seed", "step", ...).values.astype(float) for name in names]


def falls_before_alarm(
    runs: xr.Dataset, found: Foresight, spikes: Spikes
) -> tuple[Bool[np.ndarray, " spike"], Int[np.ndarray, " spike"]]:
    """Per foreseen spike, whether v̂ of every layer has fallen before the alarm, and its seed."""
    seed, spike = np.nonzero(found.leads >= 0)
    alarm = spikes.trigger[seed, spike] - found.leads[seed, spike].astype(int)
    late = alarm >= WINDOW
    seed, alarm = seed[late], alarm[late]
    v = runs.second_moment.transpose("seed", "step", ...).values
    return (v[seed, alarm] < v[seed, alarm - WINDOW]).all(axis=-1), seed
