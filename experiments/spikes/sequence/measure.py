"""What ``spikes-sequence`` reads from its records: warnings of the spikes, leaves that decouple."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from experiments.spikes.scores import START, WINDOW, each_step
from phenodl.spikes import decoupling, sustained
from phenodl.spikes.detect import Spikes
from phenodl.spikes.stages import Stages

SIGNAL = "curvature_b"
"""The curvature along the gradient, of the symmetric form, on the batch of the step."""

HORIZON = 100
"""Steps ahead of the trigger from which a warning counts as one of this spike."""

STRETCH = 20
"""Steps in a row of g² < v/10 that make a leaf decoupled."""


class Decays(NamedTuple):
    """How v decayed in the leaves that decoupled ahead of the spikes.

    Attributes:
        leaves: that decoupled, per spike.
        error: of the fitted decay per step from β2, in units of 1 - β2, in the worst of those
            leaves; NaN where there is none.
    """

    leaves: Int[np.ndarray, " spike"]
    error: Float[np.ndarray, " spike"]


def high_only(spikes: Spikes, height: float) -> Spikes:
    """The spikes of at least so many decades; the others become padding."""
    high = (spikes.trigger >= 0) & (spikes.height >= height)
    return spikes._replace(
        count=high.sum(axis=1),
        trigger=np.where(high, spikes.trigger, -1),
        peak=np.where(high, spikes.peak, -1),
        end=np.where(high, spikes.end, -1),
        height=np.where(high, spikes.height, np.nan),
    )


def leads(
    runs: xr.Dataset,
    spikes: Spikes,
    event: Int[np.ndarray, "seed spike"],
    share: float,
) -> Float[np.ndarray, " spike"]:
    """Steps from the first warning of each spike to an event of it; NaN without a warning.

    The warning is the first step, from :data:`HORIZON` ahead of the trigger up to the event, at
    which the mean of the signal over 10 steps is above a share of its threshold.

    Args:
        runs: with the signal and ``threshold``.
        spikes: of the runs.
        event: its step, trigger or peak; entries below 0 are padding.
        share: of the threshold.
    """
    met = warned(runs, share)
    since = np.maximum(np.asarray(spikes.trigger) - HORIZON, START)
    first = sustained.first_met(met, event, since)
    return np.where(first < 0, np.nan, event - first)[event >= 0]


def by_chance(runs: xr.Dataset, spikes: Spikes, share: float) -> Float[np.ndarray, " seed"]:
    """The share of shifted triggers with a warning in the steps before, all shifts of each seed.

    A trigger is shifted to every step whose :data:`HORIZON` neither reaches the detector's start
    nor meets a spike or the horizon of one; NaN where there is no such step.

    Args:
        runs: with the signal and ``threshold``.
        spikes: of the runs.
        share: of the threshold.
    """
    recently = sliding_window_view(warned(runs, share), HORIZON + 1, axis=1).any(axis=-1)
    steps = np.arange(HORIZON, runs.sizes["step"])
    trigger, end = (np.asarray(at)[..., None] for at in (spikes.trigger, spikes.end))
    end = np.where(end < 0, runs.sizes["step"], end)
    apart = (trigger < 0) | (steps < trigger - HORIZON) | (steps - HORIZON > end)
    calm = apart.all(axis=1) & (steps >= START + HORIZON)
    number = calm.sum(axis=1)
    return np.where(number, (recently & calm).sum(axis=1) / np.maximum(number, 1), np.nan)


def warned(runs: xr.Dataset, share: float) -> Bool[np.ndarray, "seed step"]:
    """Whether the mean of the signal over 10 steps is above a share of its threshold."""
    curve = each_step(runs, SIGNAL, WINDOW)
    return curve > share * runs.threshold.transpose("seed", "step").values


def stage_two_decays(runs: xr.Dataset, spikes: Spikes, found: Stages, b2: float) -> Decays:
    """Fits the decay of v in every leaf over its longest stretch of g² < v/10 before the crossing.

    The window is looked for from the end of the spike before (or where the detector starts) to the
    step at which the 10-step mean of the signal passes the threshold, the trigger where it does
    not. A leaf whose stretch is shorter than :data:`STRETCH` steps has not decoupled.

    Args:
        runs: with ``squared_gradient`` and ``second_moment`` of the leaves.
        spikes: of the runs.
        found: the stages of these spikes.
        b2: decay of the second moment.
    """
    squared, corrected = (
        runs[name].transpose("seed", "step", ...).values
        for name in ("squared_gradient", "second_moment")
    )
    leaves, errors = [], []
    for seed, spike in np.argwhere(spikes.trigger >= 0):
        crossing = found.crossing[seed, spike]
        fitted = decoupling.by_layer(
            squared[seed],
            corrected[seed],
            b2,
            since=max(START, int(found.start[seed, spike])),
            until=int(crossing if crossing >= 0 else spikes.trigger[seed, spike]),
        )
        long = fitted.last - fitted.first + 1 >= STRETCH
        leaves.append(long.sum())
        error = np.abs(fitted.factor[long] - b2) / (1 - b2)
        errors.append(error.max() if long.any() else np.nan)
    return Decays(np.array(leaves, int), np.array(errors, float))
