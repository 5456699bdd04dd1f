"""Controllers and rivals on every training that spikes: spikes, losses, and what they cost."""

from collections.abc import Mapping

import jax
import xarray as xr
from jaxtyping import Array, Int

from experiments.control import tasks
from experiments.control.interventions import figures, ledger, tuning
from experiments.control.interventions.config import ADAM, CONTROLLERS, GRIDS, RIVALS, Config
from experiments.control.interventions.costs import cost
from experiments.control.interventions.methods import method
from experiments.control.interventions.scores import score
from experiments.control.interventions.selection import best_method
from experiments.control.names import FULL_BATCH
from experiments.control.tasks import Task
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import probes
from phenodl.protocol import Probe, View
from phenodl.spikes.control import GuardedState

LOOKS = 50
"""How often the held-out loss is measured."""

PARTS = 5
"""Files of results of a training on mini-batches, which takes long; looks are a multiple of it."""


def train(config: Config, recorder: Recorder) -> None:
    """One training for each task and method; the knob's values are an axis of it."""
    for task_name in config.tasks:
        chosen = tasks.task(task_name)
        for name in config.methods_of(task_name):
            with jax.enable_x64(chosen.x64):
                recorder.train(
                    training_name(task_name, name),
                    chosen.problem,
                    method(name, chosen.steps),
                    tasks.runs(chosen, seeds(config, task_name), setting=values(config, name)),
                    steps=chosen.steps,
                    probes=measurements(chosen, name),
                    chunk=chosen.steps // (1 if task_name in FULL_BATCH else PARTS),
                    layout=chosen.layout,
                )


def training_name(task: str, name: str) -> str:
    """Of the training of one task by one method."""
    return f"{task}-{name}".replace("_", "-")


def seeds(config: Config, task: str) -> range:
    """The seeds of a task."""
    count = config.seeds if task in FULL_BATCH else config.minibatch_seeds
    return range(config.first_seed, config.first_seed + count)


def values(config: Config, name: str) -> list[float]:
    """Of a method's knob: one, or its grid; plain Adam's has no meaning."""
    if name not in GRIDS:
        return [1.0]
    return list(GRIDS[name]) if config.tuning else [getattr(config.settings, name)]


def measurements(chosen: Task, name: str) -> list[Probe]:
    """The loss of every step, the held-out loss now and then, and how many steps were corrected."""
    loss, unseen = chosen.problem.loss, chosen.unseen
    taken = [
        probes.loss(),
        probes.value(
            "unseen_loss", lambda view: loss(view.params, unseen), every=chosen.steps // LOOKS
        ),
    ]
    if name in CONTROLLERS:
        taken.append(probes.value("corrected", corrected, emit="end"))
    return taken


def corrected(view: View) -> Int[Array, ""]:
    """The number of steps that a controller has corrected."""
    state = view.method_state
    assert isinstance(state, GuardedState)
    return state.corrected


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """What the controller does and what it costs; of the grids, which settings they choose."""
    found = {
        name: {
            task: score(
                results[training_name(task, name)],
                tasks.task(task),
                cost(task, name),
            )
            for task in config.tasks
            if name in config.methods_of(task)
        }
        for name in config.methods
    }
    if config.tuning:
        return Analysis(
            claims=tuning.claims(config, found), tables={"settings": tuning.rows(found)}
        )
    rivals = [
        name for name in RIVALS if name in config.methods and name in config.minibatch_methods
    ]
    shown = [best_method(found, rivals, found[ADAM])] if rivals else []
    return Analysis(
        claims=ledger.claims(config, found),
        figures={
            "overview": figures.overview(config, found),
            "losses": figures.curves(config, found, shown),
        },
        tables={
            "lowest": ledger.lowest_rows(config, found),
            **{task: ledger.rows(task, found) for task in config.tasks},
        },
    )
