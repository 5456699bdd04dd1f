"""The narrow critical points that the experiments of this study embed, and how they are found.

In ``train``: ``find(base, config.search, recorder)``. In ``analyze``, from what that has stored:
``found(base, config.search, results)``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from experiments.embedding.search import Search
from experiments.recorder import Recorder
from phenodl.data import functions, tables
from phenodl.embedding import critical
from phenodl.embedding.critical import CriticalPoints
from phenodl.models import mlp
from phenodl.models.mlp import Activation, Params
from phenodl.protocol import LossFn, Problem


class Base(NamedTuple):
    """Networks of one architecture, each to be fitted to one of several targets.

    Attributes:
        name: of the search, as recorded; lower-case words joined by hyphens.
        problem: mean squared error on the first of the targets.
        activation: of the hidden layers.
        inputs: of all targets, one column per data point.
        targets: one after the other.
    """

    name: str
    problem: Problem
    activation: Activation
    inputs: Float[np.ndarray, "features n"]
    targets: Float[np.ndarray, "target outputs n"]


def staircases(
    name: str,
    hidden: Sequence[int],
    *,
    seed: int,
    count: int,
    activation: Activation = mlp.tanh,
) -> Base:
    """One network for each of ``count`` random functions of one variable with three steps."""
    samples = [functions.staircase(seed + number) for number in range(count)]
    return _base(name, samples[0][0], np.stack([y for _, y in samples]), hidden, activation)


def iris(name: str, hidden: Sequence[int] = (2,), activation: Activation = mlp.tanh) -> Base:
    """Networks that tell a flower's petal width from its three other measures."""
    inputs, targets = tables.iris()
    return _base(name, inputs, targets[None], hidden, activation)


def find(base: Base, search: Search, recorder: Recorder) -> CriticalPoints:
    """Looks for critical points from many starts; leading axes target, seed."""
    return critical.search(
        base.problem,
        key=jax.random.key(search.seed),
        seeds=range(search.seed, search.seed + search.seeds),
        instance={"targets": base.targets},
        steps=search.steps,
        descent_steps=search.descent_steps,
        bound=search.bound,
        name=base.name,
        trainer=recorder.train,
    )


def found(base: Base, search: Search, results: Mapping[str, xr.Dataset]) -> CriticalPoints:
    """What :func:`find` has found, from its stored results; leading axes target, seed."""
    return critical.points_of(results[base.name], base.problem, bound=search.bound)


def loss(base: Base, target: int) -> LossFn:
    """The loss of a network, narrow or wide, on one of the targets."""
    return lambda params: data_loss(base, params, jnp.asarray(base.targets[target]))


def data_loss(base: Base, params: Params, targets: Float[Array, "outputs n"]) -> Float[Array, ""]:
    """The same with the targets as an argument, to be vmapped over networks on several targets."""
    return base.problem.loss(params, {"inputs": jnp.asarray(base.inputs), "targets": targets})


def _base(
    name: str,
    inputs: Float[np.ndarray, "n features"],
    targets: Float[np.ndarray, "target n outputs"],
    hidden: Sequence[int],
    activation: Activation,
) -> Base:
    problem = mlp.problem(inputs, targets[0], hidden=hidden, activation=activation)
    return Base(name, problem, activation, inputs.T, targets.transpose(0, 2, 1))
