"""What was measured of one network: growth before each spike, and what became of each arm."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.config import Adam
from experiments.spikes.branches import Approaches
from experiments.spikes.explanations.branches import ARMS
from experiments.spikes.explanations.config import Config
from experiments.spikes.scores import find_spikes


class Growth(NamedTuple):
    """The growth of λ_max(Ĥ) from each trough to the crossing of 2/η, in natural logarithms.

    Attributes:
        seed: place of the run; all columns have one entry per spike.
        first: whether it is the run's first spike.
        total: ln of λ_max at the crossing over λ_max at the trough.
        diagonal: of it, owed to D: the mean of its two orders, D first and H first.
        hessian: the rest, owed to H.
        diagonal_alone: ln of λ_max(D_t H_t0) over λ_max(D_t0 H_t0).
        hessian_alone: ln of λ_max(D_t0 H_t) over λ_max(D_t0 H_t0).
        sharpness: λ_max(H) at the trigger in units of 2/η.
    """

    seed: Int[np.ndarray, " spike"]
    first: Bool[np.ndarray, " spike"]
    total: Float[np.ndarray, " spike"]
    diagonal: Float[np.ndarray, " spike"]
    hessian: Float[np.ndarray, " spike"]
    diagonal_alone: Float[np.ndarray, " spike"]
    hessian_alone: Float[np.ndarray, " spike"]
    sharpness: Float[np.ndarray, " spike"]


class Branches(NamedTuple):
    """The arms of the seeds that spike, one entry per such seed; see ARMS.

    Attributes:
        seed: place of the run.
        begin: the trough: the last step that the arms share.
        end: of the control's spike; the arms are judged from ``begin`` to here.
        spiked: whether an arm spikes in this time, (arm, seed).
        top: the highest λ_max(Ĥ) in units of 2/η in this time, (arm, seed).
        crossing: steps from ``begin`` to the first λ_max(Ĥ) above 2/η, (arm, seed); NaN if none.
        predicted: the same for v decaying by β2 per step at an unchanging Hessian.
    """

    seed: Int[np.ndarray, " branch"]
    begin: Int[np.ndarray, " branch"]
    end: Int[np.ndarray, " branch"]
    spiked: Bool[np.ndarray, "arm branch"]
    top: Float[np.ndarray, "arm branch"]
    crossing: Float[np.ndarray, "arm branch"]
    predicted: Float[np.ndarray, " branch"]


class Outcome(NamedTuple):
    """All of one network; ``ratio`` and ``kept`` hold eigenvalues in units of 2/η.

    Attributes:
        seeds: how many runs.
        every: steps between two measurements.
        loss: (arm, seed, step).
        ratio: of λ_max(Ĥ), (arm, seed, measured).
        sharpness: of λ_max(H), (seed, measured), control.
        kept: of λ_max(D_t H_t0) and λ_max(D_t0 H_t), (2, seed, measured), control.
        approaches: to all spikes of the control.
        growth: per spike.
        branches: per seed that spikes.
    """

    seeds: int
    every: int
    loss: Float[np.ndarray, "arm seed step"]
    ratio: Float[np.ndarray, "arm seed measured"]
    sharpness: Float[np.ndarray, "seed measured"]
    kept: Float[np.ndarray, "2 seed measured"]
    approaches: Approaches
    growth: Growth
    branches: Branches


def outcome(arms: xr.Dataset, found: Approaches, optimizer: Adam, config: Config) -> Outcome:
    """Everything measured of one network.

    Args:
        arms: the second training, along arm, seed and step.
        found: the approaches to the control's spikes, of which the arms left the highest.
        optimizer: Adam's hyper-parameters.
        config: of the experiment.
    """
    values = {name: arms[name].transpose("arm", "seed", ...).values for name in arms.data_vars}
    limit = values["threshold"]
    ratio = values["lambda_max_adam"] / limit
    kept = np.stack([values[f"lambda_{name}_kept"][0] for name in ("hessian", "diagonal")])
    sharpness = (values["lambda_max"] / limit)[0]
    kept = kept / limit[0]
    return Outcome(
        seeds=ratio.shape[1],
        every=config.every,
        loss=values["loss"],
        ratio=ratio,
        sharpness=sharpness,
        kept=kept,
        approaches=found,
        growth=_growth(ratio[0], kept, sharpness, found, config.every),
        branches=_branches(arms, ratio, found, optimizer, config),
    )


def _growth(
    ratio: Float[np.ndarray, "seed measured"],
    kept: Float[np.ndarray, "2 seed measured"],
    sharpness: Float[np.ndarray, "seed measured"],
    found: Approaches,
    every: int,
) -> Growth:
    seed, spike = np.nonzero(found.trigger >= 0)
    trough, crossing, trigger = (
        column[seed, spike] // every for column in (found.trough, found.crossing, found.trigger)
    )
    with np.errstate(invalid="ignore"):  # a run that diverged
        start, end = np.log(ratio[seed, trough]), np.log(ratio[seed, crossing])
        diagonal_alone, hessian_alone = np.log(kept[:, seed, crossing]) - start
    total = end - start
    diagonal = (diagonal_alone + total - hessian_alone) / 2
    return Growth(
        seed=seed,
        first=np.diff(seed, prepend=-1) > 0,
        total=total,
        diagonal=diagonal,
        hessian=total - diagonal,
        diagonal_alone=diagonal_alone,
        hessian_alone=hessian_alone,
        sharpness=sharpness[seed, trigger],
    )


def _branches(
    arms: xr.Dataset,
    ratio: Float[np.ndarray, "arm seed measured"],
    found: Approaches,
    optimizer: Adam,
    config: Config,
) -> Branches:
    highest = found.highest()
    seed = np.flatnonzero(highest.trough >= 0)
    begin, end = highest.trough[seed], highest.end[seed]
    shape = len(ARMS), len(seed)
    spiked, top, crossing = np.zeros(shape, bool), np.full(shape, np.nan), np.full(shape, np.nan)
    for arm in range(len(ARMS)):
        spikes = find_spikes(arms.loss.isel(arm=arm), config.rise, optimizer.b1)
        for place, (row, first, last) in enumerate(zip(seed, begin, end, strict=True)):
            trigger = spikes.trigger[row]
            spiked[arm, place] = ((trigger > first) & (trigger <= last)).any()
            window = ratio[arm, row, first // config.every : last // config.every + 1]
            top[arm, place] = np.max(window)
            above = np.flatnonzero(ratio[arm, row, first // config.every :] > 1)
            crossing[arm, place] = config.every * above[0] if above.size else np.nan
    start = ratio[0, seed, begin // config.every]
    predicted = 2 * np.log(start) / np.log(optimizer.b2)
    return Branches(seed, begin, end, spiked, top, crossing, predicted)
