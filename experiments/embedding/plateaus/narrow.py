"""The critical points of networks of one and of two units on the targets: search and catalogue."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, Float

from experiments.embedding import bases
from experiments.embedding.bases import Base
from experiments.embedding.plateaus.config import Config
from experiments.recorder import Recorder
from phenodl.compiler import QUICKLY
from phenodl.embedding import catalogue
from phenodl.embedding.catalogue import Entry
from phenodl.embedding.critical import CriticalPoints
from phenodl.models.mlp import Params
from phenodl.optim import newton

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


class Polished(NamedTuple):
    """Critical points, one per network that was polished: their losses and gradient norms."""

    loss: Float[np.ndarray, " points"]
    grad_norm: Float[np.ndarray, " points"]


def polish(
    base: Base, params: Sequence[Params], targets: Float[np.ndarray, "points outputs n"]
) -> Polished:
    """Goes from networks, each on its target, to critical points, as the search of minima does.

    Down in the loss at first: a rest may be so far up a flat valley that going down in the gradient
    alone takes hundreds of steps.
    """

    @functools.partial(jax.jit, compiler_options=dict(QUICKLY))
    @jax.vmap
    def each(params: Params, targets: Float[Array, "outputs n"]) -> tuple[Array, Array]:
        def loss(at: Params) -> Float[Array, ""]:
            return bases.data_loss(base, at, targets)

        def move(at: Params, _: None) -> tuple[Params, None]:
            return jax.tree.map(jnp.add, at, newton.newton_step(loss, at, descend=True)), None

        params, _ = jax.lax.scan(move, params, length=_POLISH_STEPS)
        value, grads = jax.value_and_grad(loss)(params)
        return value, optax.tree.norm(grads)

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    return Polished(*map(np.asarray, each(stacked, targets)))


def _for_saddles(base: Base) -> Base:
    return base._replace(name=f"{base.name}-saddles")


def _distinct(base: Base, points: CriticalPoints) -> tuple[Entry, ...]:
    """Of one target. Points that are not accepted are replaced by one that is: one shape for all.

    Each number of points would be a compilation of its own.
    """
    accepted = np.flatnonzero(points.accepted)
    if not accepted.size:
        return ()
    rows = np.where(points.accepted, np.arange(len(points.accepted)), accepted[0])
    chosen = points.take(rows)
    return catalogue.distinct(chosen.params, chosen.loss, jnp.asarray(base.inputs), base.activation)
