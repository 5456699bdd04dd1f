"""Trains, finds the plateaus, holds them against the best fits of their rank, states the claims."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Estimate, Target, bootstrap, share
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
        ("starts", some, config.stds, config.steps, flow),
    ):
        runs = sweep.product(
            key=jax.random.key(config.seed),
            fold_in=("instance",),
            instance={"target": chosen.target, "mask": chosen.mask},
            init_std=stds,
        )
        recorder.train(
            name, factorization.problem(), runs=runs, steps=steps, chunk=min(steps, 5000), **how
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
            *_plateau_claims(config, exact, ranks_agree(history, passed), distance),
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
    config: Config, exact: np.ndarray, agreement: np.ndarray, distance: Mapping[int, np.ndarray]
) -> list[Claim]:
    sequence, bounds = ", ".join(map(str, RANKS)), {1: 1e-9, 2: 1e-7}
    return [
        _share_claim(
            "sequence",
            f"A run rests at plateaus of rank {sequence}, once each, in this order (on data whose"
            f" minor opposite the hidden entry is at least {config.least_minor:g}, as all here).",
            f"{_PAPER}, Fig. 3",
            exact,
            0.95,
        ),
        _share_claim(
            "rank-agreement",
            "At a plateau A, B, W_aug and W have the same rank.",
            f"{_PAPER}, definition of the manifolds",
            agreement,
            0.99,
        ),
        *(
            Claim(
                id=f"{EXPERIMENT.name}/best-fit-{k}",
                statement=f"At plateaus of rank {k} the median distance of W from the best rank-{k}"
                f" fit is at most {bounds[k]:g}.",
                source=f"{_PAPER}, Fig. 3",
                n=values.size,
                target=Target("<=", bounds[k]),
                **bootstrap(values)._asdict(),
            )
            for k, values in distance.items()
        ),
    ]


def _escape_claims(leaving: Mapping[int, Escapes]) -> list[Claim]:
    second = np.concatenate([each.second for each in leaving.values()])
    cosines = [np.minimum(each.left, each.right) for each in leaving.values()]
    return [
        _share_claim(
            "escape-rank-one",
            "The part of W_aug that grows at a saddle, or at the origin, has rank one to 1e-2.",
            f"{_PAPER}, Fig. 5b",
            second <= PLATEAU_RTOL,
            0.95,
        ),
        _share_claim(
            "escape-direction",
            "It grows along the first singular vectors of the residual (cosines of at least .99).",
            "derived: linearised there, dα/dt = Rβ and dβ/dt = Rᵀα for each empty direction (α, β)",
            np.concatenate(cosines) >= _ALIGNED,
            0.95,
        ),
    ]


def _solution_claims(config: Config, solutions: Solutions, starts: Solutions) -> list[Claim]:
    largest = int(np.argmax(config.stds))
    from_largest = starts.rank[starts.converged[:, largest], largest]
    return [
        _share_claim(
            "converged",
            f"From std {config.init_std:g} the flow fits the observed entries (loss per entry ≤"
            " 1e-12) within the given steps.",
            "premise of the claims about solutions, which rest on converged runs",
            solutions.converged,
            0.95,
        ),
        _share_claim(
            "small-start-rank",
            f"From std {config.init_std:g} the solution has the minimum rank, {RANK}.",
            f"{_PAPER}, Fig. 3",
            solutions.rank[solutions.converged] == RANK,
            0.9,
        ),
        _share_claim(
            "large-start-rank",
            f"From std {config.stds[largest]:g} it has full rank, and misses the ground truth.",
            f"{_PAPER}, Fig. 3",
            from_largest > RANK,
            0.9,
        ),
    ]


def _share_claim(name: str, statement: str, source: str, met: np.ndarray, least: float) -> Claim:
    """A claim about the share of runs, or plateaus, that meet a condition."""
    estimate = _share(met)._asdict()
    name = f"{EXPERIMENT.name}/{name}"
    return Claim(name, statement, source, n=met.size, target=Target(">=", least), **estimate)


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
        "at the best fit (to 1e-3)": _share(distance <= 1e-3).measured,
    }


def _share(met: np.ndarray) -> Estimate:
    return share(int(met.sum()), met.size)
