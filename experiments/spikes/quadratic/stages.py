"""The stages of a trajectory's first spike: decay of v, crossing, trigger, peak, return."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from phenodl.spikes import decoupling, detect


class Stages(NamedTuple):
    """The first spike of a trajectory, in steps; -1 for what does not come.

    Attributes:
        crossing: the curvature first exceeds its threshold.
        trigger: the detector sees the loss rise.
        peak: the highest loss of the spike.
        back: the curvature first returns below its threshold.
        height: of the peak, in decades; NaN without a spike.
        decay: the factor by which v shrinks per step before the crossing, where g² is under a
            thousandth of it; NaN without a crossing.
    """

    crossing: int
    trigger: int
    peak: int
    back: int
    height: float
    decay: float


@functools.partial(jax.jit, static_argnames="b1")
def detected(
    loss: Float[np.ndarray, " step"], b1: float
) -> tuple[detect.Spikes, detect.Observation]:
    """What the detector finds on a curve; its table has room for the first spike alone."""
    return detect.detect(jnp.asarray(loss), b1=b1, max_spikes=1)


def stages(run: xr.Dataset, b1: float) -> Stages:
    """The stages of one trajectory's first spike."""
    loss = run.loss.values
    spikes, _ = detected(loss, b1)
    spike = int(spikes.trigger[0]), int(spikes.peak[0])
    above = (run.curvature > run.threshold).values
    if not above.any():
        return Stages(-1, *spike, -1, float(spikes.height[0]), float("nan"))
    crossing = int(np.argmax(above))
    below = np.flatnonzero(~above[crossing:])
    back = crossing + int(below[0]) if below.size else -1
    before = slice(crossing)
    decays = decoupling.fit(2 * loss[before], run.second_moment.values[before], ratio=1e-3)
    return Stages(crossing, *spike, back, float(spikes.height[0]), decays.factor)
