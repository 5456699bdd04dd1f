"""The networks and functions that ``spikes-explanations`` trains."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spikes.explanations.config import Config, Network
from phenodl import training
from phenodl.data.functions import quadratic_target, sine_mixture
from phenodl.models import mlp
from phenodl.optim import adam, interventions
from phenodl.protocol import Hyper, Problem
from phenodl.sweep import Runs

MOST_ANCHORS = 64
"""Spikes of a run of which the growth is told apart; the detector lists no more."""


def network(config: Config, name: str) -> Network:
    """The settings of one of ``config.networks``."""
    return {"sine": config.sine, "deep": config.deep, "frequent": config.frequent}[name]


def problem(
    name: str, width: int, first_seed: int, seeds: int
) -> tuple[Problem, dict[str, jax.Array]]:
    """The problem, and what each seed has of its own: a target, if that is random.

    The data hold ``anchors``, the steps that the counterfactual eigenvalues start from: none yet.
    """
    own = {"anchors": jnp.full((seeds, MOST_ANCHORS), -1, jnp.int32)}
    if name == "sine":
        return mlp.problem(*sine_mixture(dtype=np.float64), hidden=[width]), own
    targets = [quadratic_target(seed) for seed in range(first_seed, first_seed + seeds)]
    each = [np.stack([sample.T for sample in part]) for part in zip(*targets, strict=True)]
    own |= {name: jnp.asarray(part) for name, part in zip(("inputs", "targets"), each, strict=True)}
    return mlp.problem(*targets[0], hidden=[width]), own


def with_data(runs: Runs, own: dict[str, jax.Array]) -> Runs:
    """The runs with the data of their seeds, which are the last axis of the sweep."""
    seeds = len(runs.axes["seed"])
    return runs._replace(data={name: leaf[runs.id % seeds] for name, leaf in own.items()})


def _optimizer(hyper: Hyper):
    rule = interventions.from_hyper(hyper)
    return interventions.transformation(adam.from_hyper(hyper), rule)


METHOD = training.from_optax(_optimizer)
"""Adam with the intervention that a run's hyper-parameters describe."""
