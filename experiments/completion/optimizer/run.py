"""Trains every optimizer on the same instances from the same starts, and compares with the flow."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap, share
from experiments.completion.connected import connected_instances
from experiments.completion.optimizer import figures, methods, minibatch
from experiments.completion.optimizer.config import EXPERIMENT, Config
from experiments.completion.optimizer.outcome import (
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

_SOURCE = "feasibility study: steps that are large, have a memory or a scale of their own bias it"


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
        budget = {"steps": config.steps, "chunk": min(config.steps, 1000)}
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
    fastest = np.logical_and.reduce([each.counted[:, 1] for each in compared.values()])
    named = {
        "converged-flow": ("The flow fits", flow.converged[:, 0], 0.95),
        "converged-all": ("At its second setting every optimizer fits", fastest, 0.6),
    }
    return [
        Claim(
            f"{EXPERIMENT.name}/{name}",
            f"{who} the observed entries (loss per entry ≤ 1e-12) in time.",
            source,
            n=met.size,
            target=Target(">=", least),
            **share(int(met.sum()), met.size)._asdict(),
        )
        for name, (who, met, least) in named.items()
    ]


def _distance_claims(compared: Mapping[str, Comparison]) -> list[Claim]:
    descent, constant = compared["gradient-descent"], compared["constant-rate"]
    momentum, adam = compared["momentum"], compared["adam"]
    return [
        _claim(
            "descent-first-order",
            "The solution of gradient descent departs from the flow's in proportion to the step:"
            " the median exponent lies in [.7, 1.2].",
            "derived: gradient descent is the flow to first order in the step",
            slopes(descent),
            Target("in", (0.7, 1.2)),
        ),
        _claim(
            "descent-largest",
            "At the largest step, near the limit of stability, it departs by .3 % at least, in the"
            " median.",
            f"{_SOURCE} (change of W up to .31 at half that step)",
            _known(descent.distance[:, -1]),
            Target(">=", 0.003),
        ),
        _claim(
            "momentum-farther",
            "At equal speed the heavy ball ends twice as far from the flow as gradient descent, or"
            " farther, in the median.",
            _SOURCE,
            ratios(momentum, constant),
            Target(">=", 2),
        ),
        _claim(
            "momentum-vanishing",
            "The heavy ball approaches the flow as its learning rate falls: the median exponent is"
            " .4 at least.",
            "derived: its limit of small steps is the flow",
            slopes(momentum),
            Target(">=", 0.4),
        ),
        _claim(
            "batches-farther",
            "Mini-batches of half of the entries end twice as far from the flow as all of them at"
            " the same learning rate, or farther, in the median.",
            _SOURCE,
            ratios(compared["mini-batches"], constant),
            Target(">=", 2),
        ),
        _claim(
            "adam-far",
            "Adam ends 3 % or more from the flow at its smallest learning rate, in the median.",
            _SOURCE,
            _known(adam.distance[:, 0]),
            Target(">=", 0.03),
        ),
        _claim(
            "adam-not-vanishing",
            "And a smaller learning rate hardly brings it nearer: the median exponent is .3 at"
            " most.",
            "derived: its limit of small steps is a flow preconditioned by the size of gradients",
            slopes(adam),
            Target("<=", 0.3),
        ),
    ]


def _bias_claims(compared: Mapping[str, Comparison]) -> list[Claim]:
    claims = []
    for name, title in (
        ("gradient-descent", "Gradient descent near the limit of stability"),
        ("mini-batches", "Mini-batches at the largest learning rate"),
    ):
        last = compared[name].counted[:, -1]
        claims.append(
            _claim(
                f"{name}-rank",
                f"{title} keep the flow's bias: the share of minimum rank is less than .2 lower.",
                _SOURCE,
                compared[name].rank_gain[last, -1],
                Target(">", -0.2),
                np.mean,
            )
        )
    adam, middle = compared["adam"], 1
    claims.append(
        _claim(
            "adam-rank",
            "Adam at its second learning rate loses the bias to low rank: minimum rank is found"
            " less often than by the flow, by .2 at least.",
            _SOURCE,
            adam.rank_gain[adam.counted[:, middle], middle],
            Target("<=", -0.2),
            np.mean,
        )
    )
    return claims


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _claim(
    name: str,
    statement: str,
    source: str,
    values: np.ndarray,
    target: Target,
    statistic: Callable[[np.ndarray], Any] = np.median,
) -> Claim:
    """A claim about a statistic over instances."""
    estimate = bootstrap(values, statistic)._asdict()
    name = f"{EXPERIMENT.name}/{name}"
    return Claim(name, statement, source, n=len(values), target=target, **estimate)


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
