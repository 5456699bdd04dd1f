"""Full-batch Adam on sin x + sin 4x with all curvatures at every step, and what they foretell."""

from collections.abc import Mapping
from dataclasses import asdict

import jax
import xarray as xr

from experiments.claims import Claim, Target, bootstrap
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes import announcement, figures, ledger, stage_figure, tables
from experiments.spikes.measurements import ADAM, SPIKE, measurements
from experiments.spikes.scores import SIGNALS, Foresight, find_spikes, find_stages, foresight
from experiments.spikes.sine.config import EXPERIMENT, Config
from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.data.functions import sine_mixture
from phenodl.models import mlp
from phenodl.protocol import Layout

NAME = EXPERIMENT.name

LAYERS = ("hidden layer", "output layer")
"""In the order of their records."""

CHUNK = 2500
"""Steps between two files of results."""

RECALL = 0.99
"""The least share of spikes that A is claimed to announce."""

PRECISION = 0.7
"""The least that is claimed of A's alarms: what 32 seeds can tell from the .80 of 192 others."""


def train(config: Config, recorder: Recorder) -> None:
    """One training of all seeds."""
    recorder.train(
        "adam",
        mlp.problem(*sine_mixture(config.points), hidden=[config.width]),
        ADAM,
        sweep.product(
            key=jax.random.key(0),
            seed=range(config.first_seed, config.first_seed + config.seeds),
            **asdict(config.optimizer),
        ),
        steps=config.steps,
        probes=measurements(
            quotients=("curvature_a", "curvature_b", "curvature_c"), products=config.products
        ),
        chunk=CHUNK,
        layout=Layout(compiler_options=QUICKLY),
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about the alarms, with the curvatures and the stages of the spikes."""
    runs, b1 = results["adam"], config.optimizer.b1
    spikes = find_spikes(runs.loss, config.rise, b1)
    found = {name: foresight(runs, name, spikes, shifts=config.shifts) for name in SIGNALS}
    stages = find_stages(runs, spikes)
    return Analysis(
        claims=[
            ledger.spiking(NAME, spikes),
            *announcement.claims(NAME, found, recall=RECALL, precision=PRECISION),
            eigenvalue_first(found),
            ledger.decays(NAME, runs, config.optimizer.b2),
            ledger.preconditioner_grows(NAME, runs, found["curvature_a"], spikes),
        ],
        figures={
            "curvatures": figures.curvatures(runs, spikes),
            "around-trigger": figures.around_trigger(runs, spikes),
            "lead-times": figures.lead_times(found),
            "second-moments": figures.second_moments(runs, spikes, LAYERS),
            "alignment": figures.alignment(runs, spikes),
            "stages": stage_figure.stages(runs, spikes, stages),
        },
        tables={
            "alarms": ledger.rows(found),
            "stages": tables.stage_rows(stages),
            "kinds": tables.kind_rows(runs, spikes, b1),
        },
    )


def eigenvalue_first(found: Mapping[str, Foresight]) -> Claim:
    """λ_max(Ĥ) crosses the threshold before the curvature along the gradient."""
    ahead = found["lambda_max_adam"].leads - found["curvature_a"].leads
    return Claim(
        f"{NAME}/order",
        "λ_max(Ĥ) crosses 2/η ahead of A: median steps between the two, over the spikes that "
        "both announce",
        SPIKE,
        *bootstrap(ahead, ledger.finite_median),
        len(ahead),
        Target(">=", 1),
    )
