"""Trains every optimizer on the same instances from the same starts, and compares with the flow."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.completion.connected import connected_instances
from experiments.completion.optimizer import figures, methods, minibatch
from experiments.completion.optimizer.config import EXPERIMENT, Config
from experiments.completion.optimizer.outcome import (
    MOVED,
    Comparison,
    Solutions,
    compare,
    ratios,
    slopes,
    solutions,
)
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import probes
from phenodl.models import factorization
from phenodl.protocol import Problem

_SOURCE = "measured here: steps that are large, have a memory or a scale of their own bias the flow"
_MOVED = f"of instances that moved by {MOVED:g} or more"


def train(config: Config, recorder: Recorder) -> None:
    """The flow, and each optimizer at all of its settings, on all instances."""
    instances = connected_instances(config.seed, config.masks_per_size)

    def record(name: str, problem: Problem, training: Mapping[str, Any], **settings: Any) -> None:
        runs = sweep.product(
            key=jax.random.key(config.seed),
            fold_in=("instance",),
            instance=instances.data,
            init_std=config.init_std,
            **settings,
        )
        budget = {"steps": config.steps, "chunk": min(config.steps, 2500)}
        recorder.train(name, problem, runs=runs, **budget, **training)

    full, mini = factorization.problem(), minibatch.problem
    rates, tolerance = config.learning_rates, config.tolerance
    flow = methods.watched(methods.flow(), probes, tolerance)
    descent = methods.watched(methods.gradient_descent(), probes, tolerance)
    ball = methods.watched(methods.heavy_ball(), minibatch, tolerance)
    adam = methods.watched(methods.adam(), probes, tolerance)

    record("flow", full, flow)
    record("gradient-descent", full, descent, factor=config.step_factors)
    record("constant-rate", mini(1.0), ball, learning_rate=rates, momentum=0.0)
    record("momentum", mini(1.0), ball, learning_rate=rates, momentum=config.momentum)
    record("mini-batches", mini(config.batch_share), ball, learning_rate=rates, momentum=0.0)
    record("adam", full, adam, learning_rate=config.adam_rates)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Distances to the flow's solutions, and what becomes of rank and nuclear norm."""
    instances = connected_instances(config.seed, config.masks_per_size)
    flow = solutions(instances, results["flow"])
    found = {
        name: solutions(instances, trained) for name, trained in results.items() if name != "flow"
    }
    compared = {name: compare(each, flow) for name, each in found.items()}
    return Analysis(
        claims=[
            *_premises(flow, compared),
            *_distance_claims(compared),
            *_bias_claims(compared),
        ],
        figures={
            "distance": figures.distance(compared),
            "bias": figures.bias(compared),
        },
        tables={
            "optimizers": [
                _row(name, found[name], each, place)
                for name, each in compared.items()
                for place in range(len(each.settings))
            ]
        },
    )


def _premises(flow: Solutions, compared: Mapping[str, Comparison]) -> list[Claim]:
    source = "premise of the claims below, which rest on converged runs"
    descent, momentum, adam = (
        compared[name].counted.all(1) for name in ("gradient-descent", "momentum", "adam")
    )
    fastest = [compared[name].counted[:, -1] for name in ("constant-rate", "mini-batches")]
    named = {
        "flow": ("The flow fits", flow.converged[:, 0], 0.95),
        "descent": ("At each of its steps gradient descent fits", descent, 0.55),
        "momentum": ("At each of its learning rates the heavy ball fits", momentum, 0.6),
        "fastest": (
            "At the largest learning rate gradient descent and mini-batches both fit",
            np.logical_and.reduce(fastest),
            0.6,
        ),
        "adam": ("At each of its learning rates Adam fits", adam, 0.8),
    }
    return [
        share_claim(
            f"{EXPERIMENT.name}/converged-{name}",
            f"{who} the observed entries (loss per entry ≤ 1e-12) in time.",
            source,
            met,
            Target(">=", least),
        )
        for name, (who, met, least) in named.items()
    ]


def _distance_claims(compared: Mapping[str, Comparison]) -> list[Claim]:
    descent, constant = compared["gradient-descent"], compared["constant-rate"]
    momentum, adam = compared["momentum"], compared["adam"]
    name = EXPERIMENT.name
    return [
        bootstrap_claim(
            f"{name}/descent-first-order",
            "The solution of gradient descent departs from the flow's in proportion to the step:"
            f" the median exponent {_MOVED} lies in [.7, 1.2].",
            "derived: gradient descent is the flow to first order in the step",
            slopes(descent),
            Target("in", (0.7, 1.2)),
        ),
        bootstrap_claim(
            f"{name}/descent-largest",
            "At the largest step, near the limit of stability, it departs by .3 % at least, in the"
            " median of converged runs.",
            _SOURCE,
            _known(descent.distance[:, -1]),
            Target(">=", 0.003),
        ),
        bootstrap_claim(
            f"{name}/momentum-farther",
            "At equal speed the heavy ball ends twice as far from the flow as gradient descent, or"
            f" farther, in the median {_MOVED}.",
            _SOURCE,
            ratios(momentum, constant),
            Target(">=", 2),
        ),
        bootstrap_claim(
            f"{name}/momentum-vanishing",
            "The heavy ball approaches the flow as its learning rate falls: the median exponent"
            f" {_MOVED} is .4 at least.",
            "derived: its limit of small steps is the flow",
            slopes(momentum),
            Target(">=", 0.4),
        ),
        bootstrap_claim(
            f"{name}/batches-farther",
            "Mini-batches of half of the entries end twice as far from the flow as all of them at"
            f" the same learning rate, or farther, in the median {_MOVED}.",
            _SOURCE,
            ratios(compared["mini-batches"], constant),
            Target(">=", 2),
        ),
        bootstrap_claim(
            f"{name}/adam-far",
            "Adam ends 3 % or more from the flow at its smallest learning rate, in the median of"
            " converged runs.",
            _SOURCE,
            _known(adam.distance[:, 0]),
            Target(">=", 0.03),
        ),
        bootstrap_claim(
            f"{name}/adam-not-vanishing",
            f"And a smaller learning rate hardly brings it nearer: the median exponent {_MOVED} is"
            " .3 at most.",
            "derived: its limit of small steps is a flow preconditioned by the size of gradients",
            slopes(adam),
            Target("<=", 0.3),
        ),
    ]


def _bias_claims(compared: Mapping[str, Comparison]) -> list[Claim]:
    return [
        _rank_claim(
            "gradient-descent",
            "Gradient descent near the limit of stability keeps the flow's bias: it finds the"
            " minimum rank less often by .2 at most",
            compared["gradient-descent"],
            -1,
            Target(">", -0.2),
        ),
        _rank_claim(
            "mini-batches",
            "Mini-batches at the largest learning rate keep the flow's bias: they find the minimum"
            " rank less often by .2 at most",
            compared["mini-batches"],
            -1,
            Target(">", -0.2),
        ),
        _rank_claim(
            "adam",
            "Adam at its second learning rate loses the bias to low rank: it finds the minimum rank"
            " less often than the flow, by .2 at least",
            compared["adam"],
            1,
            Target("<=", -0.2),
        ),
    ]


def _rank_claim(
    name: str, statement: str, compared: Comparison, place: int, target: Target
) -> Claim:
    """A claim about the difference of the shares of minimum rank at one setting."""
    return bootstrap_claim(
        f"{EXPERIMENT.name}/{name}-rank",
        f"{statement}, among instances where both converge.",
        _SOURCE,
        compared.rank_gain[compared.counted[:, place], place],
        target,
        np.mean,
    )


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _row(name: str, found: Solutions, compared: Comparison, place: int) -> dict[str, Any]:
    counted = compared.counted[:, place]
    minimal = found.minimal[counted, place]

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else math.nan

    def median(values: np.ndarray) -> float:
        return float(np.median(values)) if values.size else math.nan

    return {
        "optimizer": name.replace("-", " "),
        "setting": float(compared.settings[place]),
        "instances": counted.size,
        "converged, as the flow": int(counted.sum()),
        "distance to the flow, median": median(compared.distance[counted, place]),
        "rank is minimal": mean(minimal),
        "rank is minimal, flow": mean(minimal - compared.rank_gain[counted, place]),
        "nuclear excess, median": median(found.nuclear_excess[counted, place]),
        "nuclear excess against the flow's, mean": mean(compared.nuclear_gain[counted, place]),
    }
