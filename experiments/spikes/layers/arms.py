"""Which layers are held fixed in which arm."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.spikes.branches import approaches
from experiments.spikes.layers.config import Config
from experiments.spikes.scores import each_step, find_spikes
from phenodl.optim import interventions
from phenodl.spikes import decoupling
from phenodl.sweep import Runs

ARMS = ("control", "heaviest", "others", "earliest", "later")
"""Whose v̂ is kept from the trough on: nobody's; that of the layer with most of the unstable
eigenvector, of all others; of the layer that decouples first, of all others."""

PATIENCE = 1.5
"""How long the arms are watched, in units of the control's time from trough to trigger."""


class Spike(NamedTuple):
    """One spike of each seed, the highest with room to watch the arms after it; steps.

    Attributes:
        trough: λ_max(Ĥ) is lowest since the last spike; -1 where a seed has no such spike.
        crossing: of 2/η.
        trigger: of the spike.
        mass: of the unstable eigenvector at the crossing, per layer.
        onset: the step at which g² of each layer first falls, and stays, under .1 v̂; -1 if never.
    """

    trough: Int[np.ndarray, " seed"]
    crossing: Int[np.ndarray, " seed"]
    trigger: Int[np.ndarray, " seed"]
    mass: Float[np.ndarray, "seed layer"]
    onset: Int[np.ndarray, "seed layer"]

    @property
    def window(self) -> Int[np.ndarray, " seed"]:
        """The step up to which the arms are judged."""
        return self.trough + (PATIENCE * (self.trigger - self.trough)).astype(int)

    def frozen(self) -> Bool[np.ndarray, "arm seed layer"]:
        """The layers that are held in each arm."""
        layers = np.arange(self.mass.shape[1])
        never = np.iinfo(self.onset.dtype).max
        first = np.where(self.onset < 0, never, self.onset)
        heaviest = self.mass.argmax(axis=1)[:, None] == layers
        earliest = first.argmin(axis=1)[:, None] == layers
        return np.stack([heaviest & False, heaviest, ~heaviest, earliest, ~earliest])


def chosen_spike(config: Config, control: xr.Dataset) -> Spike:
    """The spike of each seed at which the arms part.

    Args:
        config: of the experiment.
        control: along seed and step.
    """
    spikes = find_spikes(control.loss, config.rise, config.optimizer.b1)
    ratio = (control.lambda_max_adam / control.threshold).transpose("seed", ...).values
    found = approaches(ratio, config.every, spikes)
    late = found.trough + PATIENCE * (found.trigger - found.trough) > config.steps - 1
    found = found._replace(trigger=np.where(late, -1, found.trigger))
    best = found.highest()
    reached = best.trigger >= 0
    squared, second, mass = (
        np.moveaxis(control[name].transpose("seed", step, ...).values, 1, 2)
        for name, step in (
            ("squared_gradient", "step"),
            ("second_moment", "step"),
            ("mass", _along(control)),
        )
    )
    onset = np.full(squared.shape[:2], -1)
    for seed, layer in np.ndindex(onset.shape):
        if reached[seed]:
            until = slice(best.trigger[seed])
            onset[seed, layer] = decoupling.onset(
                squared[seed, layer, until],
                second[seed, layer, until],
                since=int(best.trough[seed]),
                lasting=config.lasting,
            )
    at = np.maximum(best.crossing, 0) // config.every
    return Spike(
        trough=np.where(reached, best.trough, -1),
        crossing=np.where(reached, best.crossing, -1),
        trigger=best.trigger,
        mass=mass[np.arange(len(at)), :, at],
        onset=onset,
    )


def _along(control: xr.Dataset) -> str:
    return next(str(dim) for dim in control["mass"].dims if str(dim).startswith("step"))


def branched(runs: Runs, layers: tuple[str, ...], spike: Spike | None) -> Runs:
    """The runs with the interventions of their arms; controls alone without a spike.

    Args:
        runs: along the axes ``arm`` (the places in ARMS) and ``seed``.
        layers: their names.
        spike: of each seed.
    """
    grid = np.meshgrid(runs.axes["arm"], np.arange(len(runs.axes["seed"])), indexing="ij")
    arm, seed = (place.ravel() for place in grid)
    frozen = np.zeros((len(layers), len(arm)), bool)
    steps = np.full(len(arm), interventions.NEVER)
    if spike is not None:
        frozen = spike.frozen()[arm, seed].T
        parts = (arm > 0) & (spike.trough[seed] >= 0)
        steps = np.where(parts, spike.trough[seed] + 1.0, steps)
    dtype = jnp.zeros(()).dtype
    added = {"switch_step": jnp.asarray(steps, dtype)}
    added |= {
        f"frozen/{layer}": jnp.asarray(row, dtype)
        for layer, row in zip(layers, frozen, strict=True)
    }
    return runs._replace(hyper=runs.hyper | added)


def spiked(
    config: Config, arms: xr.Dataset, spike: Spike
) -> tuple[Bool[np.ndarray, "arm seed"], Float[np.ndarray, "arm seed"]]:
    """Whether an arm spikes within the window, and its highest λ_max(Ĥ) there in units of 2/η."""
    shape = arms.sizes["arm"], len(spike.trough)
    seen, top = np.zeros(shape, bool), np.full(shape, np.nan)
    for arm in range(shape[0]):
        run = arms.isel(arm=arm)
        trigger = find_spikes(run.loss, config.rise, config.optimizer.b1).trigger
        after = (trigger > spike.trough[:, None]) & (trigger <= spike.window[:, None])
        seen[arm] = after.any(axis=1)
        ratio = each_step(run, "lambda_max_adam") / each_step(run, "threshold")
        for seed in np.flatnonzero(spike.trough >= 0):
            top[arm, seed] = ratio[seed, spike.trough[seed] : spike.window[seed] + 1].max()
    return seen, top
