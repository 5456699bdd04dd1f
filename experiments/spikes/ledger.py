"""The claims that the experiments on loss spikes have in common.

Each is one function; ``name`` is the experiment's, ``signal`` one of ``scores.SIGNALS``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from experiments.claims import Claim, Estimate, Target, Verdict, bootstrap, share_claim
from experiments.claims import share as share_of
from experiments.spikes.measurements import SPIKE
from experiments.spikes.scores import (
    SIGNALS,
    WINDOW,
    Foresight,
    decay_factors,
    each_step,
    falls_before_alarm,
    precision,
)
from phenodl.spikes import alarms
from phenodl.spikes.alarms import Counts
from phenodl.spikes.detect import Spikes

SHORT = {
    "curvature_a": "A",
    "curvature_b": "B",
    "curvature_c": "C",
    "lambda_max_adam": "λ_max(Ĥ)",
    "lambda_max": "λ_max(H)",
    "lambda_grad": "λ_grad",
}
"""The signals' names inside a sentence."""

KEYS = {
    "curvature_a": "a",
    "curvature_b": "b",
    "curvature_c": "c",
    "lambda_max_adam": "lambda-max",
}
"""The signals' names inside the id of a claim."""


def spiking(
    name: str,
    spikes: Spikes,
    target: Target = Target(">", 0.5),
    *,
    least: float = 0.0,
    statement: str = "Most runs spike",
) -> Claim:
    """The share of seeds with a spike, of ``least`` decades at least."""
    high = (spikes.trigger >= 0) & (spikes.height >= least)
    return share_claim(f"{name}/spikes", statement, SPIKE, high.any(axis=1), target)


def innocent_landscape(
    name: str, runs: xr.Dataset, spikes: Spikes, target: Target = Target(">=", 0.95)
) -> Claim:
    """At the trigger the Hessian itself is below the threshold; ``runs`` hold ``lambda_max``."""
    seed, spike = np.nonzero(spikes.trigger >= 0)
    below = each_step(runs, "lambda_max") < each_step(runs, "threshold")
    met = below[seed, spikes.trigger[seed, spike]]
    return Claim(
        f"{name}/plain-hessian",
        "When a spike is triggered, λ_max of the Hessian itself, as last measured, is below 2/η: "
        "it is the preconditioner that makes the step unstable",
        SPIKE,
        *pooled_share(*by_seed(met, seed, len(spikes.trigger))),
        met.size,
        target,
    )


def recall(name: str, signal: str, found: Foresight, target: Target = Target(">=", 0.95)) -> Claim:
    """The share of spikes that an alarm of the signal reaches."""
    return Claim(
        f"{name}/{KEYS[signal]}-recall",
        f"{SHORT[signal]} crosses 2/η before the spike: share of spikes",
        SPIKE,
        *pooled_share(found.counts.foreseen, found.counts.spikes),
        int(found.counts.spikes.sum()),
        target,
    )


def precision_of(name: str, signal: str, found: Foresight, target: Target) -> Claim:
    """The share of alarms that a spike follows, with an interval over seeds."""
    seeds = np.arange(len(found.counts.true))
    return Claim(
        f"{name}/{KEYS[signal]}-precision",
        f"A spike follows an alarm of {SHORT[signal]}: share of alarms",
        SPIKE,
        *bootstrap(seeds, lambda some: precision(found.counts, some)),
        len(seeds),
        target,
    )


def above_chance(name: str, signal: str, found: Foresight) -> Claim:
    """Precision against that of the same alarms at other times."""
    return Claim(
        f"{name}/{KEYS[signal]}-chance",
        f"Alarms of {SHORT[signal]} are right more often than the same alarms at random times: "
        "difference of precision",
        "circular shifts of the alarms",
        *_difference(found.counts, found.chance),
        len(found.leads),
        Target(">", 0),
    )


def area(name: str, signal: str, found: Foresight) -> Claim:
    """The area under the receiver operating characteristic, against that of random places."""
    scored = np.isfinite(found.auc + found.chance_auc)
    return Claim(
        f"{name}/{KEYS[signal]}-auc",
        f"{SHORT[signal]} is higher in the 30 steps before a spike than elsewhere: AUC above that "
        "of the same curve at random times, mean over seeds",
        "circular shifts of the curve",
        *bootstrap((found.auc - found.chance_auc)[scored], np.mean),
        int(scored.sum()),
        Target(">", 0),
    )


def precision_gap(
    name: str,
    one: Foresight,
    other: Foresight,
    target: Target = Target(">=", 0.1),
    *,
    key: str = "precision",
    statement: str = "Alarms of A are right more often than those of λ_max(Ĥ): difference of "
    "precision",
) -> Claim:
    """How much more precise the alarms of one signal are than another's."""
    return Claim(
        f"{name}/{key}",
        statement,
        f"{SPIKE}, λ_grad against λ_max",
        *_difference(one.counts, other.counts),
        len(one.leads),
        target,
    )


def lead(
    name: str, signal: str, found: Foresight, target: Target = Target(">=", 1), key: str = "lead"
) -> Claim:
    """The median of the steps from alarm to trigger, over the spikes that are foreseen."""
    return Claim(
        f"{name}/{key}",
        f"{SHORT[signal]} crosses 2/η ahead of the spikes it announces: median steps from alarm to "
        "trigger",
        SPIKE,
        *bootstrap(found.leads, finite_median),
        len(found.leads),
        target,
    )


def decays(name: str, runs: xr.Dataset, b2: float, expected: Verdict = "holds") -> Claim:
    """The fitted decay of v in the worst layer, where g² is far below v."""
    worst = np.nanmax(np.abs(decay_factors(runs, b2) - b2), axis=1, initial=-1) / (1 - b2)
    errors = worst[worst >= 0]
    return Claim(
        f"{name}/decay",
        "Where g² < v/10, v of every layer that decouples decays by the factor β2 per step: error "
        "of the worst layer in units of 1 - β2, median over seeds (the window alone bounds it by "
        "0.1)",
        f"{SPIKE}, decay of the preconditioner",
        *bootstrap(errors),
        len(errors),
        Target("<", 0.05),
        expected,
    )


def preconditioner_grows(name: str, runs: xr.Dataset, found: Foresight, spikes: Spikes) -> Claim:
    """Before the alarms, v̂ of all layers falls."""
    falls, seed = falls_before_alarm(runs, found, spikes)
    return Claim(
        f"{name}/preconditioner-grows",
        f"Over the {WINDOW} steps before the alarm of A, v̂ of every layer falls: share of the "
        "spikes it announces",
        f"{SPIKE}, decay of the preconditioner",
        *pooled_share(*by_seed(falls, seed, len(spikes.trigger))),
        falls.size,
        Target(">=", 0.9),
    )


def by_seed(
    met: np.ndarray, seed: np.ndarray, seeds: int
) -> tuple[Int[np.ndarray, " seed"], Int[np.ndarray, " seed"]]:
    """How many instances of each seed meet a condition, and how many there are."""
    return np.bincount(seed, met, seeds).astype(int), np.bincount(seed, minlength=seeds)


def pooled_share(met: Int[np.ndarray, " seed"], total: Int[np.ndarray, " seed"]) -> Estimate:
    """A share of instances that come several to a seed, and need not be independent within it.

    Its interval reaches as far as either of two: the bootstrap over seeds, which knows nothing
    where all seeds agree, and that of as many independent instances.

    Args:
        met: how many of each seed meet the condition.
        total: how many there are.
    """
    independent = share_of(int(met.sum()), int(total.sum()))
    some = total > 0
    pairs = np.stack([met[some], total[some]], axis=1)
    over_seeds = bootstrap(pairs, lambda rows: rows[:, 0].sum() / rows[:, 1].sum())
    ends = np.array([independent.interval, over_seeds.interval])
    return Estimate(independent.measured, (np.nanmin(ends[:, 0]), np.nanmax(ends[:, 1])))


def rows(found: Mapping[str, Foresight], since: int = 0) -> list[dict[str, Any]]:
    """The table of scores, a row per signal; ``since`` is the step alarms are read from."""
    return [
        {
            "signal": SIGNALS.get(name, name),
            "alarms from step": since,
            "precision": float(alarms.precision(each.counts)),
            "by chance": float(alarms.precision(each.chance)),
            "recall": float(alarms.recall(each.counts)),
            "recall by chance": float(alarms.recall(each.chance)),
            "AUC": float(np.nanmean(each.auc)) if np.isfinite(each.auc).any() else np.nan,
            "median lead": finite_median(each.leads),
            "alarms": int(each.counts.true.sum() + each.counts.false.sum()),
            "begun inside a spike, left out": int(each.counts.dropped.sum()),
        }
        for name, each in found.items()
    ]


def finite_median(values: np.ndarray) -> float:
    """The median of the values that are there; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _difference(one: Counts, other: Counts) -> Estimate:
    """How much higher one precision is, bootstrapped over seeds in pairs."""
    seeds = np.arange(len(one.true))
    return bootstrap(seeds, lambda some: precision(one, some) - precision(other, some))
