"""Trains the instances from every start, and holds what is learned against the true minima."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.completion import gradient_flow
from experiments.completion.connectivity import figures, ledger
from experiments.completion.connectivity.config import Config
from experiments.completion.connectivity.outcome import (
    MET,
    NOT_MET,
    UNDECIDED,
    ConnectedOutcome,
    Outcome,
    Reference,
    connected_outcome,
    graphs,
    instances,
    measure,
    reference,
)
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import CONNECTIVITIES, Connectivity
from phenodl.completion.greedy import greedy_low_rank, path_of
from phenodl.models import factorization

STAGES = 3
"""Of greedy learning: the largest rank of a ground truth."""
STAGE_STEPS = 100_000
"""Runge-Kutta steps of the flow on each Ω_k, at most; some creep along valleys for longer."""


def train(config: Config, recorder: Recorder) -> None:
    """The flow of every instance from every start; the flow on each Ω_k for connected data."""
    family = instances(config)
    runs = sweep.product(
        key=jax.random.key(config.seed),
        fold_in=("instance",),
        instance={"target": family.target, "mask": family.mask},
        init_std=config.init_stds,
    )
    training = gradient_flow.training(config.tolerance)
    options = {"steps": config.steps, "chunk": min(config.steps, 5000)}
    recorder.train("flow", factorization.problem(), runs=runs, **options, **training)

    connected = np.array([graph.connectivity == "connected" for graph in graphs(family)])
    greedy_low_rank(
        family.target[connected],
        family.mask[connected],
        stages=STAGES,
        steps=min(STAGE_STEPS, config.steps),
        trainer=recorder.train,
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Ranks and nuclear norms against the minima, by connectivity and by the start."""
    family = instances(config)
    known = reference(family)
    outcome = measure(known, results["flow"])
    path = path_of([results[f"greedy-rank{stage}"] for stage in range(1, STAGES + 1)])
    connected = connected_outcome(family, known, outcome, path)
    small, smallest = config.small_start, config.smallest_start
    return Analysis(
        claims=ledger.claims(config, known, outcome, connected),
        figures={
            "rank": figures.rank(known, outcome, config.init_stds, sorted({small, smallest})),
            "nuclear-norm": figures.nuclear_norm(known, outcome, config.init_stds, small),
            "small-starts": figures.small_starts(connected, config.init_stds, small),
        },
        tables={
            "classes": [_class_row(known, outcome, small, name) for name in CONNECTIVITIES],
            "starts": [_start_row(connected, *place) for place in enumerate(config.init_stds)],
        },
    )


def _class_row(
    known: Reference, outcome: Outcome, start: int, name: Connectivity
) -> dict[str, Any]:
    members, converged = known.connectivity == name, outcome.converged[:, start]
    counted = known.of_class(name) & converged
    decided = counted & outcome.norm_decided[:, start]
    excess = outcome.nuclear_excess[counted, start]
    return {
        "observed entries": name,
        "instances": int(members.sum()),
        "converged": int((members & converged).sum()),
        "minimum rank known": int((members & (known.minimum_rank > 0)).sum()),
        "rank is minimal": _share((outcome.rank[:, start] == known.minimum_rank)[counted]),
        "nuclear minimum decided": int(decided.sum()),
        "nuclear norm is minimal": _share(outcome.minimal_norm[decided, start]),
        "nuclear excess, median": float(np.median(excess)) if excess.size else math.nan,
        "nuclear excess, 90 %": float(np.quantile(excess, 0.9)) if excess.size else math.nan,
    }


def _start_row(connected: ConnectedOutcome, start: int, std: float) -> dict[str, Any]:
    converged, minimal = connected.converged[:, start], connected.minimal_rank[:, start]
    missed = converged & ~minimal
    largest = connected.largest[missed, start]
    return {
        "std of the start": std,
        "connected instances": len(converged),
        "converged": _share(converged),
        "rank is minimal": _share(minimal[converged]),
        **{
            f"condition {known}": _share(minimal[converged & (connected.condition == known)])
            for known in (MET, NOT_MET, UNDECIDED)
        },
        "largest singular value where missed": float(np.median(largest))
        if largest.size
        else math.nan,
    }


def _share(met: np.ndarray) -> float:
    return float(met.mean()) if met.size else math.nan
