"""What is read off the trainings of one method on one task: spikes, losses, steps corrected."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from experiments.control.tasks import Task
from phenodl.spikes.detect import detect, trailing_mean

RISES = (0.3, 0.1)
"""Decades that make a spike; the first is what the claims are about."""

LEAST, MOST = 1e-12, 1e12
"""Losses nearer to their floor than the first are not told apart, nor those further from it than
the second or not finite at all."""


class Scores(NamedTuple):
    """Of the runs of one method on one task, along seed and setting; losses above their floor.

    Attributes:
        spikes: of 0.3 decades or more; a run that diverges has one more.
        small_spikes: the same of 0.1 decades or more.
        curve: the loss of every step, averaged over the task's window.
        quarter: the loss after a quarter of the steps; half: after half of them; last: at the end.
        best: the lowest.
        same_time: when as much time has passed as plain Adam takes for all its steps.
        unseen: the held-out loss at its last measurement, not above a floor.
        touched: share of the steps that a controller corrected; NaN for other methods.
    """

    spikes: Int[np.ndarray, "seed setting"]
    small_spikes: Int[np.ndarray, "seed setting"]
    curve: Float[np.ndarray, "seed setting step"]
    quarter: Float[np.ndarray, "seed setting"]
    half: Float[np.ndarray, "seed setting"]
    last: Float[np.ndarray, "seed setting"]
    best: Float[np.ndarray, "seed setting"]
    same_time: Float[np.ndarray, "seed setting"]
    unseen: Float[np.ndarray, "seed setting"]
    touched: Float[np.ndarray, "seed setting"]


def score(runs: xr.Dataset, chosen: Task, cost: float = 1.0) -> Scores:
    """Scores the runs of one method on one task.

    Args:
        runs: with ``loss`` and ``unseen_loss`` along seed, setting and their steps, for controllers
            also with the number of steps ``corrected``.
        chosen: the task.
        cost: time per step, in units of plain Adam's.
    """
    losses = runs.loss.transpose("seed", "setting", "step").values
    with jax.enable_x64(losses.dtype == np.float64):
        curve, counts = (np.asarray(each) for each in _read(losses, chosen.floor, chosen.window))
    diverged = ~np.isfinite(losses).all(axis=-1)
    curve = np.clip(np.nan_to_num(curve, nan=MOST), LEAST, MOST)
    steps = curve.shape[-1]
    reached = min(int(steps / cost), steps)
    unseen = runs.unseen_loss.transpose("seed", "setting", ...).values[..., -1]
    touched = np.full(diverged.shape, np.nan)
    if "corrected" in runs:
        touched = runs.corrected.transpose("seed", "setting").values / steps
    spikes, small_spikes = (counts[..., each] + diverged for each in range(len(RISES)))
    return Scores(
        spikes,
        small_spikes,
        curve,
        quarter=curve[..., steps // 4 - 1],
        half=curve[..., steps // 2 - 1],
        last=curve[..., -1],
        best=curve[..., chosen.window - 1 :].min(axis=-1),
        same_time=curve[..., reached - 1],
        unseen=np.nan_to_num(unseen, nan=MOST),
        touched=touched,
    )


def geometric_mean(values: np.ndarray) -> Float[np.ndarray, "*rest"]:
    """Over the first axis, the seeds."""
    return np.exp(np.log(values).mean(axis=0))


@functools.partial(jax.jit, static_argnames="window")
def _read(
    losses: Float[Array, "seed setting step"], floor: float, window: int
) -> tuple[Float[Array, "seed setting step"], Int[Array, "seed setting rise"]]:
    """Losses above the floor, averaged over the window, and the spikes of each height."""

    def read(curve: Float[Array, " step"]) -> tuple[Array, Array]:
        smooth = trailing_mean(curve, window) if window > 1 else curve
        bounds = jnp.asarray(RISES, curve.dtype)
        count = jax.vmap(lambda rise: detect(smooth, rise=rise, floor=floor)[0].count)(bounds)
        return smooth - jnp.asarray(floor, curve.dtype), count

    return jax.vmap(jax.vmap(read))(losses)
