"""The critical points of networks of one and of two units on the targets: search and catalogue."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments.embedding import bases
from experiments.embedding.bases import Base
from experiments.embedding.plateaus.config import Config
from experiments.recorder import Recorder
from phenodl.embedding import catalogue, plateaus
from phenodl.embedding.catalogue import Entry
from phenodl.embedding.critical import CriticalPoints
from phenodl.embedding.reduction import Reduction

UNITS = (1, 2)
"""Of the networks in the catalogue."""

_POLISH_STEPS = 40


def search(config: Config, recorder: Recorder) -> None:
    """Looks for the minima of one unit, and for minima and saddles of two."""
    for each in UNITS:
        base = staircases(config, each)
        bases.find(base, config.minima, recorder)
        if each > 1:
            bases.find(_for_saddles(base), config.saddles, recorder)


def catalogues(config: Config, results: Mapping[str, xr.Dataset]) -> list[tuple[Entry, ...]]:
    """The distinct critical points on each target, those of one unit first."""
    per_units = []
    for each in UNITS:
        base = staircases(config, each)
        found = [bases.found(base, config.minima, results)]
        if each > 1:
            found.append(bases.found(_for_saddles(base), config.saddles, results))
        points = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *found)
        per_units.append([_distinct(base, points.take(row)) for row in range(config.targets)])
    return [catalogue.catalogue(searches) for searches in zip(*per_units, strict=True)]


def staircases(config: Config, units: int) -> Base:
    """Networks with so many hidden units, narrow or wide, on all targets."""
    return bases.staircases(f"units{units}", (units,), seed=config.seed, count=config.targets)


def polish(
    base: Base, rests: Sequence[Reduction], targets: Float[np.ndarray, "points outputs n"]
) -> CriticalPoints:
    """Goes from rests, each on its target, to critical points, as the search of minima does."""
    return plateaus.polish_reductions(
        functools.partial(bases.data_loss, base),
        rests,
        targets,
        steps=_POLISH_STEPS,
        descent_steps=_POLISH_STEPS,
    )


def _for_saddles(base: Base) -> Base:
    return base._replace(name=f"{base.name}-saddles")


def _distinct(base: Base, points: CriticalPoints) -> tuple[Entry, ...]:
    """Of one target."""
    accepted = points.take(points.accepted)
    inputs = jnp.asarray(base.inputs)
    return catalogue.distinct(accepted.params, accepted.loss, inputs, base.activation)
