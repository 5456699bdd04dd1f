"""Full-batch Adam on a quadratic target of 50 variables: a deep spike, and frequent ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import jax
import xarray as xr

from experiments.claims import Target, share_claim
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes import announcement, figures, ledger, tables
from experiments.spikes.highdim import crossings
from experiments.spikes.highdim.config import EXPERIMENT, Config, Training
from experiments.spikes.measurements import ADAM, SPIKE, measurements
from experiments.spikes.scores import SIGNALS, Foresight, find_spikes, find_stages, foresight
from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.data.functions import quadratic_target
from phenodl.models import mlp
from phenodl.protocol import Layout
from phenodl.spikes.curvatures import Quotient
from phenodl.spikes.detect import Spikes

NAME = EXPERIMENT.name

LAYERS = ("hidden layer", "output layer")
"""In the order of their records."""

PAIR = ("curvature_a", "curvature_c")
"""The signals that are drawn of the frequent runs."""

CHUNK = 1500
"""Steps between two files of results."""

DEPTH = 10.0
"""Decades that make a spike deep."""

RECALL = 0.98
"""The least share of the frequent spikes that A is claimed to announce: what 48 seeds can tell from
the .998 of 104 others."""

PRECISION = 0.88
"""The least that is claimed of A's alarms in the frequent runs; 56 other seeds gave .98."""


def train(config: Config, recorder: Recorder) -> None:
    """The deep and the frequent runs, each with the directions of its claims."""
    _train(config, recorder, "deep", config.deep, ("curvature_a",))
    _train(config, recorder, "frequent", config.frequent, PAIR)


def _train(
    config: Config, recorder: Recorder, name: str, part: Training, quotients: Sequence[Quotient]
) -> None:
    sample = quadratic_target(part.target_seed, config.points, config.dimension)
    recorder.train(
        name,
        mlp.problem(*sample, hidden=[part.width]),
        ADAM,
        sweep.product(
            key=jax.random.key(0),
            seed=range(config.first_seed, config.first_seed + part.seeds),
            **asdict(part.optimizer),
        ),
        steps=part.steps,
        probes=measurements(quotients=quotients, products=part.products),
        chunk=CHUNK,
        layout=Layout(compiler_options=QUICKLY),
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about deep and frequent spikes, with their figures."""
    deep = analyze_deep(config, results["deep"])
    frequent = analyze_frequent(config, results["frequent"])
    return Analysis(
        claims=[*deep.claims, *frequent.claims],
        figures={**deep.figures, **frequent.figures},
        tables={**deep.tables, **frequent.tables},
    )


def analyze_deep(config: Config, runs: xr.Dataset) -> Analysis:
    """One spike per run, and what precedes it."""
    optimizer, part = config.deep.optimizer, f"{NAME}/deep"
    spikes = find_spikes(runs.loss, config.rise, optimizer.b1)
    found = _foresight(config, runs, spikes)
    turns = crossings.crossings(runs, spikes, found["lambda_max_adam"], found["curvature_a"])
    single = (spikes.count == 1) & (spikes.height[:, 0] >= DEPTH)
    return Analysis(
        claims=[
            share_claim(
                f"{part}/single",
                f"On the target chosen, a run spikes once, by {DEPTH:g} decades or more: share of "
                "initial parameters",
                SPIKE,
                single,
                Target(">", 0.75),
            ),
            ledger.recall(part, "curvature_a", found["curvature_a"], Target(">", 0.75)),
            *crossings.claims(part, turns),
            ledger.decays(part, runs, optimizer.b2),
        ],
        figures={
            "deep-curvatures": figures.curvatures(runs, spikes),
            "deep-second-moments": figures.second_moments(runs, spikes, LAYERS),
            "deep-alignment": crossings.figure(runs, spikes, turns),
        },
        tables={
            "deep-alarms": ledger.rows(found),
            "deep-crossings": crossings.rows(turns),
            "deep-kinds": tables.kind_rows(runs, spikes, optimizer.b1),
        },
    )


def analyze_frequent(config: Config, runs: xr.Dataset) -> Analysis:
    """Many spikes per run, and their alarms."""
    optimizer, part = config.frequent.optimizer, f"{NAME}/frequent"
    spikes = find_spikes(runs.loss, config.rise, optimizer.b1)
    found = _foresight(config, runs, spikes)
    return Analysis(
        claims=[
            ledger.spiking(part, spikes),
            *announcement.claims(part, found, recall=RECALL, precision=PRECISION),
            ledger.decays(part, runs, optimizer.b2),
        ],
        figures={
            "frequent-curvatures": figures.curvatures(runs, spikes, signals=PAIR),
            "frequent-lead-times": figures.lead_times(found, PAIR),
        },
        tables={
            "frequent-alarms": ledger.rows(found),
            "frequent-stages": tables.stage_rows(find_stages(runs, spikes)),
            "frequent-kinds": tables.kind_rows(runs, spikes, optimizer.b1),
        },
    )


def _foresight(config: Config, runs: xr.Dataset, spikes: Spikes) -> dict[str, Foresight]:
    """The scores of the signals that were recorded."""
    recorded = [name for name in SIGNALS if name in runs]
    return {name: foresight(runs, name, spikes, shifts=config.shifts) for name in recorded}
