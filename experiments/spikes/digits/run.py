"""Full-batch Adam on real digits with the curvatures along the way, and what they foretell."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes import figures, ledger, stage_figure, tables
from experiments.spikes.digits.config import EXPERIMENT, Config
from experiments.spikes.measurements import ADAM, SPIKE, measurements
from experiments.spikes.scores import (
    SIGNALS,
    START,
    Foresight,
    each_step,
    find_spikes,
    find_stages,
    foresight,
)
from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.data.images import digits
from phenodl.models import cnn
from phenodl.protocol import Layout
from phenodl.spikes import curvatures, decoupling
from phenodl.spikes.detect import Spikes

NAME = EXPERIMENT.name

QUOTIENTS = ("curvature_a", "curvature_b", "curvature_c")

LASTING = 10
"""Steps in a row for which g² must stay far below v̂, for the table of layers."""


def train(config: Config, recorder: Recorder) -> None:
    """One training of all seeds."""
    products: dict[curvatures.Eigenvalue, int] = {
        "lambda_max_adam": config.products,
        "lambda_max": config.plain_products,
    }
    eigenvalues = [
        curvatures.eigenvalue_probe(which=[name], products=number, every=config.every)
        for name, number in products.items()
    ]
    recorder.train(
        "adam",
        cnn.problem(*digits(config.images)),
        ADAM,
        sweep.product(
            key=jax.random.key(0),
            seed=range(config.first_seed, config.first_seed + config.seeds),
            **asdict(config.optimizer),
        ),
        steps=config.steps,
        probes=[*measurements(quotients=QUOTIENTS, products=0), *eigenvalues],
        layout=Layout(width=4, compiler_options=QUICKLY),
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about alarms and spikes, with the curvatures around them."""
    runs = results["adam"]
    spikes = find_spikes(runs.loss, config.rise, config.optimizer.b1)
    whole, late = (
        {
            signal: foresight(runs, signal, spikes, since=since, shifts=config.shifts)
            for signal in SIGNALS
        }
        for since in (0, START)
    )
    a, found = whole["curvature_a"], find_stages(runs, spikes)
    return Analysis(
        claims=[
            ledger.spiking(NAME, spikes),
            ledger.innocent_landscape(NAME, runs, spikes),
            *alarm_claims(whole, late),
            alignment_claim(runs, spikes),
            ledger.decays(NAME, runs, config.optimizer.b2),
            ledger.preconditioner_grows(NAME, runs, a, spikes),
        ],
        figures={
            "curvatures": figures.curvatures(runs, spikes),
            "around-trigger": figures.around_trigger(runs, spikes),
            "lead-times": figures.lead_times(whole),
            "second-moments": figures.second_moments(runs, spikes, cnn.LAYERS),
            "alignment": figures.alignment(runs, spikes),
            "stages": stage_figure.stages(runs, spikes, found),
        },
        tables={
            "alarms": ledger.rows(whole) + ledger.rows(late, START),
            "stages": tables.stage_rows(found),
            "layers": layer_rows(runs, config.optimizer.b2),
        },
    )


def alarm_claims(whole: Mapping[str, Foresight], late: Mapping[str, Foresight]) -> list[Claim]:
    """Claims about the alarms of A, the curvature along the gradient, and of λ_max(Ĥ).

    Args:
        whole: all alarms, by signal.
        late: those of the steps from START on.
    """
    pair = ("curvature_a", "lambda_max_adam")
    a, top = (whole[signal] for signal in pair)
    each = (ledger.recall, ledger.above_chance, ledger.area)
    return [
        *(claim(NAME, signal, whole[signal]) for signal in pair for claim in each),
        ledger.precision_gap(NAME, a, top),
        ledger.precision_gap(
            NAME,
            late["curvature_a"],
            late["lambda_max_adam"],
            Target(">", 0),
            key="precision-late",
            statement=f"The same without the alarms of the first {START} steps, where no spike is "
            "looked for",
        ),
        ledger.lead(NAME, "curvature_a", a),
    ]


def alignment_claim(runs: xr.Dataset, spikes: Spikes) -> Claim:
    """The gradient has turned into the unstable direction when the loss begins to rise."""
    seed, spike = np.nonzero(spikes.trigger >= 0)
    cosines = np.full(spikes.trigger.shape, np.nan)
    cosines[seed, spike] = each_step(runs, "alignment")[seed, spikes.trigger[seed, spike]]
    return Claim(
        f"{NAME}/alignment",
        "When a spike is triggered, the gradient lies along the top eigenvector of Ĥ: |cos|, "
        "median over spikes",
        SPIKE,
        *bootstrap(cosines, ledger.finite_median),
        len(cosines),
        Target(">=", 0.8),
    )


def layer_rows(runs: xr.Dataset, b2: float) -> list[dict[str, Any]]:
    """When v and g² of each layer part for the first time, and how v decays where they have."""
    squared, corrected = (
        runs[name].transpose("seed", "step", ...).values
        for name in ("squared_gradient", "second_moment")
    )
    pairs = zip(squared, corrected, strict=True)
    seeds = [decoupling.by_layer(*pair, b2, lasting=LASTING) for pair in pairs]
    onsets = np.array([each.onset for each in seeds], float)
    onsets[onsets < 0] = np.nan
    factors = np.array([each.factor for each in seeds])
    return [
        {
            "layer": layer,
            f"g² < v̂/10 for {LASTING} steps from step, median": ledger.finite_median(onset),
            "seeds": int(np.isfinite(onset).sum()),
            "decay of v per step, median": ledger.finite_median(factor),
        }
        for layer, onset, factor in zip(cnn.LAYERS, onsets.T, factors.T, strict=True)
    ]
