"""Trains to the held-out minimum and compares with the convex solution and a large start."""

import math
import sys
from collections.abc import Mapping

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Estimate, Target, bootstrap, exact
from experiments.completion.data import descent, figures, observations
from experiments.completion.data.config import EXPERIMENT, Config
from experiments.completion.data.outcome import Outcome, Solution, measure, residual
from experiments.completion.data.task import Task, load
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep

_GROUPS = 1000


def train(config: Config, recorder: Recorder) -> None:
    """One run from a small start; for a matrix that is not too large, one from a large start."""
    task = load(config)
    print(*observations.summary(task, config), sep="\n", file=sys.stderr, flush=True)
    stds = [config.init_std, config.large_std] if task.compares(config) else [config.init_std]
    runs = sweep.product(key=jax.random.key(config.seed), init_std=stds)
    recorder.train("descent", runs=runs, **descent.training(task, config, len(stds)))


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Errors, ranks and norms of what was learned, and what the observed entries let expect."""
    task = load(config)
    outcome = measure(task, config, results["descent"])
    drawn = {
        "history": figures.history(task, outcome),
        "singular-values": figures.singular_values(outcome),
    }
    if task.picture is not None:
        drawn["photograph"] = figures.photograph(task, task.picture, outcome)
    return Analysis(
        claims=_claims(task, outcome),
        figures=drawn,
        tables={
            "entries": observations.table(task),
            "solutions": [solution.row() for solution in outcome.solutions],
        },
    )


def _claims(task: Task, outcome: Outcome) -> list[Claim]:
    small, large, convex = outcome.small, outcome.large, outcome.convex
    found = [
        _comparison(
            "mean",
            "From a small start the held-out error falls below that of predicting the mean.",
            "the premise: the data have a structure of low rank",
            _ratio(task, small, outcome.mean),
            task,
            Target("<", 1.0),
        ),
    ]
    if large is not None:
        found.append(
            _comparison(
                "large-start",
                "A large start of the same factorization at least doubles the held-out error.",
                "MF (arXiv 2405.13721): the bias towards low rank is that of a small start",
                _ratio(task, large, small),
                task,
                Target(">=", 2.0),
            )
        )
    if convex is not None:
        found += [
            _comparison(
                "convex",
                "The held-out error is not larger than that of the least nuclear norm.",
                "Arora et al. (arXiv 1905.13655): the bias is not towards low nuclear norm",
                _ratio(task, small, convex),
                task,
                Target("<=", 1.0),
            ),
            Claim(
                id=f"{EXPERIMENT.name}/effective-rank",
                statement="The effective rank is lower than that of the least nuclear norm.",
                source="Arora et al. (arXiv 1905.13655)",
                n=1,
                target=Target("<", 1.0),
                **exact(small.effective_rank / convex.effective_rank)._asdict(),
            ),
        ]
    return [*found, _one_by_one(outcome)]


def _comparison(
    name: str, statement: str, source: str, ratio: Estimate, task: Task, target: Target
) -> Claim:
    rows = len(np.unique(task.test.row % _GROUPS))
    return Claim(
        f"{EXPERIMENT.name}/{name}", statement, source, n=rows, target=target, **ratio._asdict()
    )


def _ratio(task: Task, above: Solution, below: Solution) -> Estimate:
    """The ratio of two root mean square errors; rows of the matrix are what is resampled."""
    group = np.unique(task.test.row % _GROUPS, return_inverse=True)[1]
    squares = (residual(task, each, task.test) ** 2 for each in (above, below))
    sums = np.stack([np.bincount(group, each) for each in squares], axis=1)
    return bootstrap(sums, lambda rows: np.sqrt(np.divide(*rows.sum(0))))


def _one_by_one(outcome: Outcome) -> Claim:
    """Compares effective ranks: when half the variance is explained, and at the end."""
    path = outcome.path
    explained = path.train[path.spectrum_steps] ** 2 <= path.train[0] ** 2 / 2
    half = path.effective_rank[np.argmax(explained)] if explained.any() else math.nan
    return Claim(
        id=f"{EXPERIMENT.name}/one-by-one",
        statement="Directions are learned one after another: when half the variance of the training"
        " entries is explained, the effective rank is at most half of that at the end.",
        source="MF (arXiv 2405.13721), Fig. 3",
        n=1,
        target=Target("<=", 0.5),
        **exact(half / path.effective_rank[-1])._asdict(),
    )
