"""Trains, finds the plateaus, holds them against the best fits of their rank, states the claims."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.completion import gradient_flow
from experiments.completion.hierarchy import figures
from experiments.completion.hierarchy.config import EXPERIMENT, Config
from experiments.completion.hierarchy.instances import RANK, SIDE, instances
from experiments.completion.hierarchy.outcome import (
    RANKS,
    Escapes,
    Solutions,
    distance_to_best_fit,
    escapes,
    escapes_from_origin,
    of_each_run,
    ranks_agree,
    read,
    saddles,
    sequence_is_exact,
)
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import plateaus
from phenodl.completion.plateaus import PLATEAU_RTOL
from phenodl.data.matrices import Instances
from phenodl.models import factorization

_PAPER = "MF (arXiv 2405.13721)"
_ALIGNED = 0.99


def train(config: Config, recorder: Recorder) -> None:
    """The first steps from the tiny start, recorded; the solutions from it, and from others."""
    family = instances(config)
    some = Instances(*(each[: SIDE * SIDE * config.stds_draws] for each in family))
    flow = gradient_flow.training(config.tolerance)
    # Neither polish nor an end: the history is the flow's alone, and every run has all of it.
    recorded = {
        **gradient_flow.training(config.tolerance, polish_every=None),
        "probes": plateaus.history(config.every),
        "stop": None,
    }
    for name, chosen, stds, steps, how in (
        ("history", family, config.init_std, config.history_steps, recorded),
        ("solutions", family, config.init_std, config.steps, flow),
        ("starts", some, config.stds, config.stds_steps, flow),
    ):
        runs = sweep.product(
            key=jax.random.key(config.seed),
            fold_in=("instance",),
            instance={"target": chosen.target, "mask": chosen.mask},
            init_std=stds,
        )
        recorder.train(
            name, factorization.problem(), runs=runs, steps=steps, chunk=min(steps, 50_000), **how
        )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Plateaus, their ranks and their distance from best fits; escapes; rank against the start."""
    family = instances(config)
    history = read(results["history"], family)
    passed = saddles(history)
    exact = sequence_is_exact(passed, len(family.rank))
    by_rank = {k: passed.of_rank(k) for k in RANKS}
    distance = {k: distance_to_best_fit(history, by_rank[k], k, family) for k in RANKS}
    leaving = {0: escapes_from_origin(history, family)}
    leaving |= {k: escapes(history, by_rank[k], k, family) for k in RANKS}
    solutions, starts = Solutions.of(results["solutions"]), Solutions.of(results["starts"])
    return Analysis(
        claims=[
            *_plateau_claims(
                exact,
                of_each_run(ranks_agree(history, passed), passed.run, np.all),
                {k: of_each_run(distance[k], by_rank[k].run, np.max) for k in RANKS},
            ),
            *_escape_claims(leaving),
            *_solution_claims(config, solutions, starts),
        ],
        figures={
            "hierarchy": figures.hierarchy(history, passed, int(exact.argmax()), family),
            "best-fits": figures.best_fits(distance, by_rank),
            "escapes": figures.escapes(leaving),
            "rank": figures.rank(np.asarray(config.stds), starts.rank, starts.converged),
        },
        tables={"plateaus": [_row(k, distance[k]) for k in RANKS]},
    )


def _plateau_claims(
    exact: np.ndarray, agreement: np.ndarray, distance: Mapping[int, np.ndarray]
) -> list[Claim]:
    name, bounds = EXPERIMENT.name, {1: 1e-9, 2: 1e-7}
    return [
        share_claim(
            f"{name}/sequence",
            f"A run rests at plateaus of rank {', '.join(map(str, RANKS))}, once each, in this"
            " order.",
            f"{_PAPER}, Fig. 3",
            exact,
            Target(">=", 0.93),
        ),
        share_claim(
            f"{name}/rank-agreement",
            "At all plateaus of a run A, B, W_aug and W have the same rank.",
            f"{_PAPER}, definition of the manifolds",
            agreement,
            Target(">=", 0.98),
        ),
        *(
            bootstrap_claim(
                f"{name}/best-fit-{k}",
                f"At plateaus of rank {k} the median distance of W from the best rank-{k} fit, over"
                f" the runs that have one, is at most {bounds[k]:g}.",
                f"{_PAPER}, Fig. 3",
                values,
                Target("<=", bounds[k]),
            )
            for k, values in distance.items()
        ),
    ]


def _escape_claims(leaving: Mapping[int, Escapes]) -> list[Claim]:
    name = EXPERIMENT.name
    run, second, left, right = map(np.concatenate, zip(*leaving.values(), strict=True))
    aligned = np.minimum(left, right) >= _ALIGNED
    return [
        share_claim(
            f"{name}/escape-rank-one",
            "The part of W_aug that grows at the origin, and at all saddles of a run, has rank one"
            " to 1e-2.",
            f"{_PAPER}, Fig. 5b",
            of_each_run(second <= PLATEAU_RTOL, run, np.all),
            Target(">=", 0.95),
        ),
        share_claim(
            f"{name}/escape-direction",
            "There it grows along the first singular vectors of the residual (cosines of at least"
            " .99 at all saddles of a run).",
            "derived: linearised there, dα/dt = Rβ and dβ/dt = Rᵀα for each empty direction (α, β)",
            of_each_run(aligned, run, np.all),
            Target(">=", 0.95),
        ),
    ]


def _solution_claims(config: Config, solutions: Solutions, starts: Solutions) -> list[Claim]:
    largest = int(np.argmax(config.stds))
    from_largest = starts.converged[:, largest]
    name, std = EXPERIMENT.name, config.stds[largest]
    return [
        share_claim(
            f"{name}/converged",
            f"From std {config.init_std:g} the flow fits the observed entries (loss per entry ≤"
            " 1e-12) within the given steps.",
            "premise of the claims about solutions, which rest on converged runs",
            solutions.converged,
            Target(">=", 0.95),
        ),
        share_claim(
            f"{name}/small-start-rank",
            f"From std {config.init_std:g} the solution of a converged run has the minimum rank,"
            f" {RANK}.",
            f"{_PAPER}, Fig. 3",
            solutions.rank[solutions.converged] == RANK,
            Target(">=", 0.85),
        ),
        share_claim(
            f"{name}/large-start-converged",
            f"From std {std:g} the flow fits them too.",
            "premise of the claim about solutions from there, which rests on converged runs",
            from_largest,
            Target(">=", 0.9),
        ),
        share_claim(
            f"{name}/large-start-rank",
            f"From std {std:g} the solution of a converged run has full rank, and misses the ground"
            " truth.",
            f"{_PAPER}, Fig. 3",
            starts.rank[from_largest, largest] > RANK,
            Target(">=", 0.9),
        ),
    ]


def _row(rank: int, distance: np.ndarray) -> dict[str, Any]:
    known = distance[np.isfinite(distance)]
    low, median, high = np.quantile(known, [0.1, 0.5, 0.9]) if known.size else [np.nan] * 3
    return {
        "rank": rank,
        "plateaus": len(distance),
        "best fit known": len(known),
        "distance, 10 %": float(low),
        "distance, median": float(median),
        "distance, 90 %": float(high),
        "at the best fit (to 1e-3)": float(np.mean(distance <= 1e-3)) if len(distance) else np.nan,
    }
