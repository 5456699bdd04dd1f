"""Trains the instances of the phase diagrams, and states where matrices are recovered."""

from collections.abc import Mapping

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, share_claim
from experiments.completion.scale import figures
from experiments.completion.scale.config import EXPERIMENT, Config
from experiments.completion.scale.outcome import Outcome, cells, levels, measure, sample_size
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import probes
from phenodl.models import factorization
from phenodl.optim import flow
from phenodl.protocol import Layout

_COUNTING = "derived: dimension of the matrices of that rank"
_MF = "MF (arXiv 2405.13721)"


def train(config: Config, recorder: Recorder) -> None:
    """One run per instance; a training per side."""
    for side in sorted(set(config.sides)):
        family = cells(config, side)
        runs = sweep.product(
            key=jax.random.key(config.seed),
            fold_in=("instance",),
            instance={"target": family.target, "mask": family.mask},
            init_std=config.init_std,
        )
        recorder.train(
            f"side{side}",
            factorization.problem(),
            flow.bold_driver(initial_step=0.01),
            runs,
            steps=config.steps,
            chunk=min(config.steps, 250),
            probes=(probes.solution(),),
            stop=probes.fitted(config.tolerance),
            layout=Layout(width=16 if side <= 32 else 4),
        )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Shares of recovery by sample size and connectivity."""
    outcome = measure(config, results)
    return Analysis(
        claims=_claims(config, outcome),
        figures={
            "phase-diagram": figures.phase_diagram(config, outcome),
            "recovery": figures.recovery(config, outcome),
        },
        tables={"cells": _rows(config, outcome)},
    )


def _claims(config: Config, outcome: Outcome) -> list[Claim]:
    sides = ", ".join(map(str, sorted(set(config.sides))))
    pooled = f"sides {sides} pooled"
    ratio = np.array(config.oversampling)[outcome.oversampling]
    well_above = (ratio >= 3) & outcome.connected & (outcome.degree > outcome.rank)
    name = EXPERIMENT.name
    return [
        share_claim(
            f"{name}/below-information",
            "With fewer entries than degrees of freedom at most 10 % of matrices are recovered"
            f" ({pooled}).",
            _COUNTING,
            outcome.whole[ratio < 1],
            Target("<=", 0.1),
        ),
        share_claim(
            f"{name}/at-information",
            "With 1 to 1.25 entries per degree of freedom at most 10 % of matrices are recovered"
            f" ({pooled}).",
            "conjecture: the flow needs more entries than information does",
            outcome.whole[(ratio >= 1) & (ratio <= 1.25)],
            Target("<=", 0.1),
        ),
        share_claim(
            f"{name}/well-above",
            "With 3 entries per degree of freedom and more, connected data with more entries than"
            " the rank in all rows and columns recover at least 75 % of matrices within the given"
            f" steps ({pooled}).",
            f"{_MF}: connected data lead to low rank",
            outcome.whole[well_above],
            Target(">=", 0.75),
        ),
        share_claim(
            f"{name}/well-above-fitted",
            "Of these, at least 90 % of the runs that have fitted the observed entries recover the"
            " matrix.",
            f"{_MF}: connected data lead to low rank",
            outcome.whole[well_above & outcome.fitted],
            Target(">=", 0.9),
        ),
        share_claim(
            f"{name}/disconnected",
            f"Disconnected data recover at most 5 % of matrices as a whole ({pooled}).",
            "derived: no entry ties one component to another",
            outcome.whole[~outcome.connected],
            Target("<=", 0.05),
        ),
        share_claim(
            f"{name}/components",
            "With 2.5 entries per degree of freedom and more, disconnected data recover at least"
            f" half of the matrices within their components ({pooled}).",
            f"{_MF}: each component trains by itself from a small start",
            outcome.blocks[(ratio >= 2.5) & (outcome.level == 0)],
            Target(">=", 0.5),
        ),
        share_claim(
            f"{name}/sparsest-row",
            "Connected data with fewer entries than the rank in some row or column recover at most"
            f" 10 % of matrices, whatever the sample size ({pooled}).",
            "derived: such a row is not determined",
            outcome.whole[outcome.connected & (outcome.degree < outcome.rank)],
            Target("<=", 0.1),
        ),
    ]


def _rows(config: Config, outcome: Outcome) -> list[dict[str, float | str]]:
    rows = []
    for side, rank in zip(config.sides, config.ranks, strict=True):
        for place, ratio in enumerate(config.oversampling):
            for number, level in enumerate(levels(config)):
                chosen = outcome.cell(side, rank, place, number)
                if chosen.any():
                    rows.append(
                        {
                            "side": side,
                            "rank": rank,
                            "observed entries": sample_size(ratio, rank, side),
                            "connectivity": level.name,
                            "instances": int(chosen.sum()),
                            "fitted": float(outcome.fitted[chosen].mean()),
                            "recovered": float(outcome.whole[chosen].mean()),
                            "recovered within components": float(outcome.blocks[chosen].mean()),
                        }
                    )
    return rows
