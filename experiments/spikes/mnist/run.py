"""Adam on images of MNIST, or of CIFAR-10, with the curvatures along the gradient at every step."""

from collections.abc import Mapping
from dataclasses import asdict

import jax
import xarray as xr

from experiments.claims import Target
from experiments.errors import UserError
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes import figures, ledger
from experiments.spikes.measurements import ADAM, measurements
from experiments.spikes.mnist.config import EXPERIMENT, Config
from experiments.spikes.scores import WINDOW, find_spikes, foresight
from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.data.cifar import CifarError, cifar10
from phenodl.data.images import LabelledImages, mnist, shrink
from phenodl.models import cnn
from phenodl.protocol import Layout
from phenodl.spikes import curvatures

NAME = EXPERIMENT.name
SIGNALS = ("curvature_a", "curvature_b")
NEARLY_ALL = Target(">=", 0.85)
"""As much as some 40 spikes can tell: all but one."""


def train(config: Config, recorder: Recorder) -> None:
    """One training of all seeds."""
    images, labels = load(config)
    eigenvalues = curvatures.eigenvalue_probe(products=config.products, every=config.every)
    recorder.train(
        "adam",
        cnn.problem(shrink(images, config.window), labels, batch_size=config.batch_size),
        ADAM,
        sweep.product(
            key=jax.random.key(0),
            seed=range(config.first_seed, config.first_seed + config.seeds),
            **asdict(config.optimizer),
        ),
        steps=config.steps,
        probes=[*measurements(quotients=SIGNALS, products=0), eigenvalues],
        layout=Layout(width=3, compiler_options=QUICKLY),
    )


def load(config: Config) -> LabelledImages:
    """The images to fit.

    Raises:
        UserError: the folder of CIFAR-10 cannot be used; the message names it.
    """
    if config.cifar is None:
        return mnist(config.images)
    try:
        return cifar10(config.cifar, config.images)
    except CifarError as error:
        raise UserError(str(error)) from error


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about alarms and spikes, with the curvatures around them."""
    runs = results["adam"]
    width = 1 if config.batch_size is None else WINDOW
    spikes = find_spikes(runs.loss, config.rise, config.optimizer.b1, width=width)
    found = {
        signal: foresight(runs, signal, spikes, shifts=config.shifts, width=width)
        for signal in SIGNALS
    }
    a = found["curvature_a"]
    return Analysis(
        claims=[
            ledger.spiking(NAME, spikes),
            ledger.innocent_landscape(NAME, runs, spikes, NEARLY_ALL),
            ledger.recall(NAME, "curvature_a", a, NEARLY_ALL),
            ledger.above_chance(NAME, "curvature_a", a),
            ledger.area(NAME, "curvature_a", a),
            ledger.lead(NAME, "curvature_a", a),
            ledger.decays(NAME, runs, config.optimizer.b2),
        ],
        figures={
            "curvatures": figures.curvatures(runs, spikes, width=width),
            "around-trigger": figures.around_trigger(runs, spikes, width=width),
            "second-moments": figures.second_moments(runs, spikes, cnn.LAYERS),
        },
        tables={"alarms": ledger.rows(found)},
    )
