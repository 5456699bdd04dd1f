"""Trains wide networks from a condensing and from the usual start, and reduces both alike."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, Key

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.embedding.digits import figures
from experiments.embedding.digits.config import EXPERIMENT, IMAGES, Config
from experiments.embedding.digits.measure import (
    ANGLES,
    Reduced,
    by_angle,
    compare,
    random_units,
    run_params,
    task,
)
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import probes, sweep, training
from phenodl.embedding.condensation import init as condensing_init
from phenodl.models import mlp
from phenodl.protocol import Data, Hyper, Params, Probe, Problem, View

_PAPER = "EP (arXiv 2105.14573), reduction of condensed networks"
_LOOKS = 20
_CONDENSING, _USUAL = 0, 1


def train(config: Config, recorder: Recorder) -> None:
    """Both starts, with the same steps."""
    every = config.steps // _LOOKS
    runs = sweep.product(
        key=jax.random.key(0),
        seed=range(config.first_seed, config.first_seed + config.seeds),
        usual=[0.0, 1.0],
        learning_rate=config.learning_rate,
        momentum=config.momentum,
    )
    method = training.from_optax(
        lambda hyper: optax.sgd(hyper["learning_rate"], momentum=hyper["momentum"])
    )
    recorder.train(
        "starts",
        _problem(config),
        method,
        runs,
        steps=every * _LOOKS + 1,
        probes=(probes.loss(every), Probe(_measure_params, every=every)),
        chunk=every * _LOOKS + 1,
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Units left and predictions kept, against both controls."""
    trained = results["starts"]
    last = {"condensing": _CONDENSING, "usual": _USUAL}
    params = {name: _params(trained, start, -1) for name, start in last.items()}
    reductions = {
        name: [by_angle(each, config.images, angle) for angle in ANGLES]
        for name, each in params.items()
    }
    ruled = {name: by_angle(each, config.images, config.angle) for name, each in params.items()}
    narrow = ruled["condensing"]
    unreduced = {
        name: compare(each, [run_params(each, run) for run in range(config.seeds)], config.images)
        for name, each in params.items()
    }
    at_random = random_units(params["condensing"], config.images, narrow.units)
    before = _params(trained, _CONDENSING, 0)
    (look,) = (str(name) for name in trained.dims if str(name).startswith("step"))
    ways = [
        by_angle(_params(trained, _CONDENSING, place), config.images, config.angle)
        for place in range(trained.sizes[look])
    ]
    loss = trained.loss.values[:, _CONDENSING]
    rows = [
        _row(name, each)
        for name, each in {
            "condensing start": unreduced["condensing"],
            f"condensing start, merged at {config.angle} rad": narrow,
            "condensing start, random units kept": at_random,
            "usual start": unreduced["usual"],
            f"usual start, merged at {config.angle} rad": ruled["usual"],
        }.items()
    ]
    return Analysis(
        claims=_claims(config, narrow, ruled["usual"], at_random, unreduced["condensing"]),
        figures={
            "weights": figures.weights(params["condensing"], config.angle),
            "similarity": figures.similarity(before, params["condensing"], params["usual"]),
            "agreement": figures.agreement(reductions, config.width),
            "training": figures.training(trained[look].values, loss, ways),
        },
        tables={"reductions": rows},
    )


def _claims(
    config: Config, narrow: Reduced, usual: Reduced, at_random: Reduced, wide: Reduced
) -> list[Claim]:
    name, held_out = EXPERIMENT.name, IMAGES - config.images
    start = f"From the condensing start, units that lie within {config.angle} rad merged:"
    return [
        bootstrap_claim(
            f"{name}/units",
            f"{start} median over runs of the share of {config.width} units that is left.",
            _PAPER,
            narrow.units / config.width,
            Target("<=", 0.25),
        ),
        bootstrap_claim(
            f"{name}/agreement-training",
            f"{start} median over runs of the share of equal predictions on {config.images} digits"
            " trained on.",
            _PAPER,
            narrow.trained_on,
            Target(">=", 0.99),
        ),
        bootstrap_claim(
            f"{name}/agreement-held-out",
            f"{start} median over runs of the share of equal predictions on {held_out} digits held"
            " out.",
            _PAPER,
            narrow.held_out,
            Target(">=", 0.99),
        ),
        bootstrap_claim(
            f"{name}/accuracy",
            f"{start} median over runs of the accuracy on digits held out that this costs.",
            _PAPER,
            wide.accuracy - narrow.accuracy,
            Target("<=", 0.01),
        ),
        bootstrap_claim(
            f"{name}/usual-start",
            "Control: the usual start, merged by the same rule, keeps more units; median over runs"
            " of how many times as many.",
            "control",
            usual.units / narrow.units,
            Target(">=", 2.0),
        ),
        share_claim(
            f"{name}/random-units",
            "Control: as many random units of the condensed network, rescaled, agree less with it"
            " on digits held out, in one run.",
            "control",
            at_random.held_out < narrow.held_out,
            Target(">=", 0.5),
        ),
    ]


def _problem(config: Config) -> Problem:
    data = task()
    inputs, targets = data.inputs[:, : config.images].T, data.targets[:, : config.images].T
    widths = (inputs.shape[1], config.width, targets.shape[1])

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del data
        small = condensing_init(
            key,
            widths,
            output_scale=config.init_std * config.width,
            input_std=config.init_std,
        )
        usual = mlp.init(key, widths)
        return jax.tree.map(lambda a, b: jnp.where(hyper["usual"] > 0, b, a), small, usual)

    problem = mlp.problem(inputs, targets, hidden=[config.width], activation=jax.nn.relu)
    return problem._replace(init=init)


def _measure_params(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Any]]:
    arrays = {
        f"{layer}_{name}": leaf
        for layer in view.params
        for name, leaf in view.params[layer].items()
    }
    return state, arrays


def _params(trained: xr.Dataset, start: int, place: int) -> mlp.Params:
    """The networks of one start at one look, runs along the leading axis."""
    return {
        layer: {
            name: jnp.asarray(trained[f"{layer}_{name}"].values[:, start, place])
            for name in ("weight", "bias")
        }
        for layer in ("layer_0", "layer_1")
    }


def _row(name: str, reduced: Reduced) -> dict[str, Any]:
    return {
        "network": name,
        "units, median": float(np.median(reduced.units)),
        "equal predictions, trained on": float(np.median(reduced.trained_on)),
        "equal predictions, held out": float(np.median(reduced.held_out)),
        "accuracy, held out": float(np.median(reduced.accuracy)),
        "loss, trained on": float(np.median(reduced.loss)),
    }
