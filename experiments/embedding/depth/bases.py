"""The shallow critical points that are lifted: three activations on subsets of real data.

All activations share one compiled search: each instance says which of them its networks have.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from experiments.embedding.depth.config import Config
from experiments.recorder import Recorder
from phenodl.data import tables
from phenodl.embedding import critical
from phenodl.embedding.critical import CriticalPoints
from phenodl.models import mlp
from phenodl.models.mlp import Activation, Params
from phenodl.protocol import Data, Problem

ACTIVATIONS: dict[str, Activation] = {
    "ELU": jax.nn.elu,
    "leaky ReLU": jax.nn.leaky_relu,
    "tanh": mlp.tanh,
}
"""The first two are affine on [0, ∞), with slope 1; tanh is affine nowhere."""

HIDDEN = 2
_NAME = "shallow-points"


class Instances(NamedTuple):
    """One row for every activation and subset of the flowers.

    Attributes:
        inputs: three measures of each flower.
        targets: the fourth.
        kind: number of the activation.
    """

    inputs: Float[np.ndarray, "instances 3 n"]
    targets: Float[np.ndarray, "instances 1 n"]
    kind: Int[np.ndarray, " instances"]


def instances(config: Config) -> Instances:
    """Random subsets of the irises, the same for every activation."""
    inputs, targets = tables.iris()
    random = np.random.default_rng(config.seed)
    rows = [
        random.choice(len(inputs), config.flowers, replace=False) for _ in range(config.subsets)
    ]
    kinds = np.repeat(np.arange(len(ACTIVATIONS)), config.subsets)
    chosen = np.tile(rows, (len(ACTIVATIONS), 1))
    return Instances(inputs[chosen].swapaxes(1, 2), targets[chosen].swapaxes(1, 2), kinds)


def activation(kind: Int[Array, ""]) -> Activation:
    """The activation of a number, which may be traced."""

    def selected(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        values = [each(z) for each in ACTIVATIONS.values()]
        return jnp.where(kind == 0, values[0], jnp.where(kind == 1, values[1], values[2]))

    return selected


def loss(params: Params, batch: Data) -> Float[Array, ""]:
    """The mean squared error of one instance, by a network of any depth."""
    outputs = mlp.apply(params, batch["inputs"], activation(batch["kind"]))
    return jnp.mean((outputs - batch["targets"]) ** 2)


def find(config: Config, recorder: Recorder) -> None:
    """Searches for critical points of all instances from all seeds."""
    family = instances(config)
    critical.search(
        _problem(family),
        key=jax.random.key(config.seed),
        seeds=range(config.seed, config.seed + config.starts),
        instance=dict(family._asdict()),
        steps=config.steps,
        descent_steps=config.descent_steps,
        bound=config.bound,
        name=_NAME,
        trainer=recorder.train,
    )


def found(config: Config, results: Mapping[str, xr.Dataset]) -> CriticalPoints:
    """What :func:`find` came to, from its results; leading axes instance, seed, steps down."""
    return critical.points_of(results[_NAME], _problem(instances(config)), bound=config.bound)


def _problem(family: Instances) -> Problem:
    model = mlp.problem(family.inputs[0].T, family.targets[0].T, hidden=[HIDDEN])
    return model._replace(loss=loss)
