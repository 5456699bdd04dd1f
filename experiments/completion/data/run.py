"""Trains to the held-out minimum and compares with the convex solution and a large start."""

import sys
from collections.abc import Mapping

import jax
import xarray as xr

from experiments.claims import Claim, Target
from experiments.completion.data import descent, figures, observations
from experiments.completion.data.comparisons import Comparison, compare
from experiments.completion.data.config import EXPERIMENT, Config
from experiments.completion.data.outcome import measure
from experiments.completion.data.task import load
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep

_STATEMENTS = {
    "mean": (
        "From a small start the held-out error falls below that of predicting the mean.",
        "the premise: the data have a structure of low rank",
        Target("<", 1.0),
    ),
    "large-start": (
        "A large start of the same factorization at least doubles the held-out error.",
        "MF (arXiv 2405.13721): the bias towards low rank is that of a small start",
        Target(">=", 2.0),
    ),
    "convex": (
        "Stopped early, a small start has no larger held-out error than the least nuclear norm"
        " that fits all training entries.",
        "measured here",
        Target("<=", 1.0),
    ),
    "effective-rank": (
        "Stopped early, its effective rank is lower than that of the least nuclear norm.",
        "measured here",
        Target("<", 1.0),
    ),
    "one-by-one": (
        "Directions are learned one after another: when half the variance of the training entries"
        " is explained, the effective rank is at most half of that at the end.",
        "MF (arXiv 2405.13721), Fig. 3",
        Target("<=", 0.5),
    ),
}
"""What is claimed of the photograph, by the name of the comparison that it is judged by."""


def train(config: Config, recorder: Recorder) -> None:
    """One run from a small start; for a matrix that is not too large, one from a large start."""
    task = load(config)
    _say(*observations.summary(task, config))
    stds = [config.init_std, config.large_std] if task.compares(config) else [config.init_std]
    runs = sweep.product(key=jax.random.key(config.seed), init_std=stds)
    recorder.train("descent", runs=runs, **descent.training(task, config, len(stds)))


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Errors, ranks and norms of what was learned, and what the observed entries let expect.

    The claims are about the photograph. Of a file of the user's own nothing is known beforehand:
    its numbers are shown, not judged.
    """
    task = load(config)
    outcome = measure(task, config, results["descent"])
    comparisons = compare(task, outcome)
    drawn = {
        "history": figures.history(task, outcome),
        "singular-values": figures.singular_values(outcome),
    }
    if task.picture is not None:
        drawn["photograph"] = figures.photograph(task, task.picture, outcome)
    else:
        _say(*comparisons.values())
    return Analysis(
        claims=_claims(comparisons) if task.picture is not None else [],
        figures=drawn,
        tables={
            "entries": observations.table(task),
            "solutions": outcome.rows(),
            "comparisons": [each.row() for each in comparisons.values()],
        },
    )


def _claims(comparisons: Mapping[str, Comparison]) -> list[Claim]:
    return [
        Claim(
            f"{EXPERIMENT.name}/{name}",
            statement,
            source,
            *comparisons[name].estimate,
            n=comparisons[name].n,
            target=target,
        )
        for name, (statement, source, target) in _STATEMENTS.items()
        if name in comparisons
    ]


def _say(*lines: object) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)
