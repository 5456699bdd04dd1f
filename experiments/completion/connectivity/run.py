"""Trains the instances, holds what is learned against the true minima, and states the claims."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Estimate, Target, bootstrap, share
from experiments.completion.connectivity import figures
from experiments.completion.connectivity.config import EXPERIMENT, Config
from experiments.completion.connectivity.outcome import (
    Outcome,
    bipartite,
    excess_by_std,
    instances,
    measure,
)
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import CONNECTIVITIES, probes
from phenodl.models import factorization
from phenodl.optim import flow

_PAPER = "MF (arXiv 2405.13721)"


def train(config: Config, recorder: Recorder) -> None:
    """One run per instance from the small start; several starts for complete bipartite data."""
    family = instances(config)
    everything = np.ones(len(family.rank), bool)
    problem, method = factorization.problem(), flow.rk4(factorization.safe_step())
    training = {
        "steps": config.steps,
        "chunk": min(config.steps, 5000),
        "probes": (probes.solution(),),
        "stop": probes.fitted(config.tolerance),
        "layout": factorization.small_layout(),
    }
    for name, chosen, init_std in (
        ("small-start", everything, config.init_std),
        ("rate", bipartite(family), config.rate_stds),
    ):
        runs = sweep.product(
            key=jax.random.key(config.seed),
            fold_in=("instance",),
            instance={"target": family.target[chosen], "mask": family.mask[chosen]},
            init_std=init_std,
        )
        recorder.train(name, problem, method, runs, **training)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Ranks and nuclear norms against the minima, by connectivity."""
    family = instances(config)
    outcome = measure(family, results["small-start"])
    stds = np.asarray(config.rate_stds)
    excess = excess_by_std(family, results["rate"])
    return Analysis(
        claims=[*_rank_claims(outcome), *_norm_claims(outcome, stds, excess)],
        figures={
            "rank": figures.rank(outcome),
            "nuclear-norm": figures.nuclear_norm(outcome, stds, excess),
        },
        tables={"classes": [_row(outcome, name) for name in CONNECTIVITIES]},
    )


def _rank_claims(outcome: Outcome) -> list[Claim]:
    connected, other = outcome.of_class("connected"), outcome.of_class("other")
    minimal = outcome.minimal_rank
    return [
        _claim(
            "converged",
            "The flow fits the observed entries (loss per entry ≤ 1e-12) within the given steps.",
            "premise of the claims below, which rest on converged runs",
            outcome.converged,
            Target(">=", 0.95),
        ),
        _claim(
            "connected-rank-always",
            "On connected data the solution has the minimum rank, always.",
            f"{_PAPER}, Theorem on connected data, read without its condition on the dynamics",
            minimal[connected],
            Target(">=", 1.0),
            expected="fails",
        ),
        _claim(
            "connected-rank",
            "On connected data the solution has the minimum rank in most runs.",
            f"{_PAPER}, Fig. 1",
            minimal[connected],
            Target(">=", 0.7),
        ),
        _claim(
            "disconnected-rank",
            "On other disconnected data the rank is hardly ever minimal.",
            f"{_PAPER}, Fig. 1",
            minimal[other],
            Target("<=", 0.1),
        ),
    ]


def _norm_claims(outcome: Outcome, stds: np.ndarray, excess: np.ndarray) -> list[Claim]:
    minimal, decided = outcome.minimal_norm, outcome.norm_decided
    added = np.abs(outcome.component_excess[outcome.disconnected]) <= 1e-10
    slopes = np.polyfit(np.log(stds), np.log(np.maximum(excess, 1e-16)).T, 1)[0]
    return [
        _claim(
            "bipartite-norm",
            "On complete bipartite data the solution has the minimum nuclear norm (to 1e-6).",
            f"{_PAPER}, Theorem on complete bipartite data",
            minimal[decided & outcome.of_class("complete bipartite")],
            Target(">=", 0.95),
        ),
        _claim(
            "connected-norm",
            "On connected data the nuclear norm is minimal in a minority of runs.",
            f"{_PAPER}, Fig. 1",
            minimal[decided & outcome.of_class("connected")],
            Target("<=", 0.3),
        ),
        _claim(
            "disconnected-norm",
            "On other disconnected data the nuclear norm is mostly not minimal.",
            f"{_PAPER}, Fig. 1",
            minimal[decided & outcome.of_class("other")],
            Target("<", 0.5),
        ),
        _claim(
            "component-norm",
            "On disconnected data the nuclear norm adds up over the components (to 1e-10).",
            "derived: balanced factors have ||W||_* = |A|_F², and each component is balanced",
            added,
            Target(">=", 0.95),
        ),
        Claim(
            id=f"{EXPERIMENT.name}/bipartite-rate",
            statement="The nuclear excess on complete bipartite data falls as std².",
            source="derived: the imbalance of the factors at the start is of that order",
            n=len(slopes),
            target=Target("in", (1.95, 2.05)),
            **bootstrap(slopes)._asdict(),
        ),
    ]


def _claim(
    name: str, statement: str, source: str, met: np.ndarray, target: Target, **rest: Any
) -> Claim:
    """A claim about the share of runs that meet a condition."""
    estimate = _share(met)._asdict()
    name = f"{EXPERIMENT.name}/{name}"
    return Claim(name, statement, source, n=met.size, target=target, **estimate, **rest)


def _row(outcome: Outcome, connectivity: str) -> dict[str, Any]:
    members, counted = outcome.connectivity == connectivity, outcome.of_class(connectivity)
    excess, decided = outcome.nuclear_excess[counted], counted & outcome.norm_decided
    return {
        "observed entries": connectivity,
        "instances": int(members.sum()),
        "converged": int((members & outcome.converged).sum()),
        "minimum rank known": int((members & (outcome.minimum_rank > 0)).sum()),
        "rank is minimal": _share(outcome.minimal_rank[counted]).measured,
        "nuclear minimum decided": int(decided.sum()),
        "nuclear norm is minimal": _share(outcome.minimal_norm[decided]).measured,
        "nuclear excess, median": float(np.median(excess)) if excess.size else math.nan,
        "nuclear excess, 90 %": float(np.quantile(excess, 0.9)) if excess.size else math.nan,
    }


def _share(met: np.ndarray) -> Estimate:
    return share(int(met.sum()), met.size)
