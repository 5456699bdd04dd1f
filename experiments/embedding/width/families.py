"""The narrow critical points, grouped by architecture and data."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments.embedding import bases
from experiments.embedding.bases import Base
from experiments.embedding.width import searches
from experiments.embedding.width.config import Config
from experiments.embedding.width.planted import plant
from phenodl.embedding.critical import CriticalPoints
from phenodl.models.mlp import Params

_UNITS = 2  # in every hidden layer of a planted network
_RESIDUALS = (1e-3, 1.0)  # of the planted points, from minima to saddles
_MORE = {1: 3}  # times as many with one hidden layer, whose minima are split along alpha
_WIDER = {1: 5, 2: 4, 3: 4}  # units per hidden layer that random embeddings lead to, by depth
_INPUTS = {1: "staircases", 2: "staircases", 3: "iris"}  # one input bends too little for three


class Family(NamedTuple):
    """Critical points of networks of one architecture, on the same inputs.

    Attributes:
        name: of the data.
        inputs: one column per data point.
        hidden: units of the hidden layers.
        wide: units of the hidden layers of the wide networks.
        params: leading axis over the points.
        targets: of each point.
    """

    name: str
    inputs: Float[np.ndarray, "features n"]
    hidden: tuple[int, ...]
    wide: tuple[int, ...]
    params: Params
    targets: Float[np.ndarray, "points outputs n"]

    def __len__(self) -> int:
        return len(self.targets)


def searched(config: Config) -> tuple[Base, ...]:
    """What is searched for critical points: one and two units on staircases, two on Iris."""
    return (*(searches.staircases(config, units) for units in (1, 2)), _iris())


def families(config: Config, results: Mapping[str, xr.Dataset]) -> tuple[Family, ...]:
    """All that is embedded: what a search has found, and what is planted at every depth."""
    by_name = {base.name: base for base in searched(config)}
    found = [_family(base, bases.found(base, config.search, results)) for base in by_name.values()]
    planted = []
    for depth, wide in _WIDER.items():
        inputs = by_name[_INPUTS[depth]].inputs
        residual = np.geomspace(*_RESIDUALS, _MORE.get(depth, 1) * config.planted)
        widths = (len(inputs), *(_UNITS,) * depth, 1)
        params, targets = plant(widths, inputs, residual, seed=config.seed + depth)
        name = f"planted, depth {depth}"
        planted.append(Family(name, inputs, (_UNITS,) * depth, (wide,) * depth, params, targets))
    return (*found, *planted)


def _family(base: Base, points: CriticalPoints) -> Family:
    """The accepted points, one for each loss."""
    chosen = [
        (target, np.flatnonzero(points.accepted[target])[first])
        for target in range(len(base.targets))
        for first in _first_of_each(np.asarray(points.loss)[target][points.accepted[target]])
    ]
    target, seed = np.array(chosen, int).reshape(-1, 2).T
    params = points.take((target, seed)).params
    hidden = (params["layer_0"]["bias"].shape[1],)
    return Family(base.name, base.inputs, hidden, (_WIDER[1],), params, base.targets[target])


@functools.cache
def _iris() -> Base:
    """One object, so that what is compiled for it is shared."""
    return bases.iris("iris", (_UNITS,))


def _first_of_each(losses: Float[np.ndarray, " points"]) -> np.ndarray:
    """Where each different value comes first; equal critical points agree to rounding."""
    return np.unique(np.round(losses, 10), return_index=True)[1]
