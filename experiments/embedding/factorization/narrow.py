"""The critical points of narrow factorizations, searched for as those of networks."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.completion.hierarchy.instances import RANK
from experiments.embedding.factorization.config import Config
from experiments.recorder import Recorder
from phenodl.completion.norms import numerical_rank
from phenodl.data.matrices import Instances
from phenodl.embedding import critical, factorization
from phenodl.embedding.critical import CriticalPoints
from phenodl.models import factorization as models
from phenodl.models.factorization import Factors
from phenodl.protocol import Data, Hyper, Params, Problem

WIDTHS = range(1, RANK)
"""Of the narrow factorizations, which cannot fit the data."""
_NAMES = {1: "narrow-one", 2: "narrow-two"}  # of the searches, by width
_START_STD = 1.5  # of the factors' entries: products as large as the data


class Narrow(NamedTuple):
    """The critical points of one width, with leading axes (instance, start).

    Attributes:
        left, right: the factors A and B.
        matrix: W.
        loss: 1/2 Σ (W - M)² over the observed entries.
        accepted: whether the point is critical, and its W of full rank: others are embeddings of
            points that are narrower still.
    """

    left: Float[np.ndarray, "instances starts rows width"]
    right: Float[np.ndarray, "instances starts width columns"]
    matrix: Float[np.ndarray, "instances starts rows columns"]
    loss: Float[np.ndarray, "instances starts"]
    accepted: Bool[np.ndarray, "instances starts"]

    @property
    def least(self) -> Int[np.ndarray, " instances"]:
        """The start that led to the least loss, for each instance."""
        return np.where(self.accepted, self.loss, np.inf).argmin(axis=1)

    def of_least_loss(self, values: np.ndarray) -> np.ndarray:
        """What each instance's point of least loss has."""
        return values[np.arange(len(self.loss)), self.least]


def find(config: Config, family: Instances, width: int, recorder: Recorder) -> Narrow:
    """Searches for the critical points of one width from many random starts."""
    points = critical.search(
        _problem(family, width),
        key=jax.random.key(config.seed),
        seeds=range(config.searches),
        instance={"target": family.target, "mask": family.mask},
        steps=config.search_steps,
        descent_steps=config.descent_steps,
        name=_NAMES[width],
        trainer=functools.partial(recorder.train, chunk=config.search_steps),
    )
    return _narrow(points)


def found(family: Instances, width: int, results: Mapping[str, xr.Dataset]) -> Narrow:
    """What :func:`find` has found, from its stored results."""
    return _narrow(critical.points_of(results[_NAMES[width]], _problem(family, width)))


def balanced(narrow: Narrow) -> Factors:
    """The balanced factors of every instance's point of least loss."""
    left, right = (narrow.of_least_loss(side) for side in (narrow.left, narrow.right))
    best = Factors(jnp.asarray(left), jnp.asarray(right))
    return jax.jit(jax.vmap(factorization.balance))(best)


def _problem(family: Instances, width: int) -> Problem:
    factored = models.problem(width)

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del hyper
        std = {"init_std": jnp.asarray(_START_STD, data["target"].dtype)}
        return factorization.as_network(factored.init(key, data, std))

    data = {"target": jnp.asarray(family.target[0]), "mask": jnp.asarray(family.mask[0])}
    return factorization.as_problem(factored)._replace(init=init, data=data)


def _narrow(points: CriticalPoints) -> Narrow:
    left, right = (np.asarray(points.params[f"layer_{layer}"]["weight"]) for layer in (1, 0))
    matrix = left @ right
    full = np.asarray(numerical_rank(jnp.asarray(matrix))) == left.shape[-1]
    return Narrow(left, right, matrix, np.asarray(points.loss), np.asarray(points.accepted) & full)
