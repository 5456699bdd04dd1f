"""Plain Adam on trainings that spike, watched by every predictor on the same steps."""

from collections.abc import Mapping

import jax
import xarray as xr

from experiments.control import tasks
from experiments.control.names import TRANSFORMERS
from experiments.control.predictors import figures, ledger
from experiments.control.predictors.catalogue import predictors
from experiments.control.predictors.config import Config
from experiments.control.predictors.measure import score
from experiments.control.predictors.names import REFERENCE
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes.measurements import ADAM
from phenodl import probes
from phenodl.spikes import predict


def train(config: Config, recorder: Recorder) -> None:
    """One training of all seeds per task."""
    for name in config.tasks:
        task = tasks.task(name)
        count = config.transformer_seeds if name in TRANSFORMERS else config.seeds
        seeds = range(config.first_seed, config.first_seed + count)
        watching = predict.probe(predictors(config.predictors, name))
        with jax.enable_x64(task.x64):
            recorder.train(
                name,
                task.problem,
                ADAM,
                tasks.runs(task, seeds),
                steps=task.steps,
                probes=[probes.loss(), watching],
                layout=task.layout,
            )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """What each predictor foretells on each task, and whether the free one rivals A."""
    scored = {name: score(config, name, results[name]) for name in config.tasks}
    claims = [
        claim for name, each in scored.items() for claim in ledger.claims(config.free, name, each)
    ]
    shown = [REFERENCE, config.free]
    return Analysis(
        claims=claims,
        figures={
            "areas": figures.areas(scored),
            "leads": figures.leads(scored),
            "examples": figures.examples(scored, shown),
            "around-triggers": figures.around_triggers(scored, shown),
        },
        tables={
            "costs": ledger.costs(config),
            **{name: ledger.rows(each) for name, each in scored.items()},
        },
    )
