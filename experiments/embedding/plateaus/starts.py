"""The starts: one that condenses, one in which a unit is ahead of the others, a plain Gaussian one.

All are tiny. A perturbation of a saddle grows exponentially, at one rate for all units of equal
output weight. Units whose perturbations are alike therefore leave the saddle together and spread
out; one whose perturbation is larger by orders of magnitude leaves alone, long before the others,
so that the network comes to a saddle of two directions.
"""

import functools
import math

import jax
import numpy as np
from jaxtyping import Array, Key

from experiments.embedding.plateaus.config import Config
from phenodl.compiler import ONCE
from phenodl.embedding import condensation
from phenodl.models.mlp import Params

LEADER = 0
"""The unit that is ahead."""


@functools.partial(jax.jit, static_argnums=0, compiler_options=dict(ONCE))
def condensing(config: Config) -> Params:
    """Parameters for each target and key, stacked, the keys of a target next to each other."""

    def one(key: Key[Array, ""]) -> Params:
        return condensation.init(
            key, (1, config.units, 1), output_scale=config.output_scale, input_std=config.input_std
        )

    return jax.vmap(one)(jax.random.split(_key(config, 0), config.targets * config.keys))


def leader(config: Config) -> Params:
    """Parameters for each target: its first condensing start with one unit put ahead."""
    params = jax.tree.map(lambda leaf: np.array(leaf[:: config.keys]), condensing(config))
    for rows in params["layer_0"].values():
        rows[:, LEADER] *= config.leader_std / config.input_std
    return params


def gaussian(config: Config) -> Params:
    """Parameters for each target, independent normal ones."""
    leaves, structure = jax.tree.flatten(condensing(config))
    shapes = [leaf.shape[1:] for leaf in leaves]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    flat = np.asarray(jax.random.normal(_key(config, 1), (config.targets, ends[-1])))
    parts = np.split(config.gaussian_std * flat, ends[:-1], axis=1)
    rows = [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
    return jax.tree.unflatten(structure, rows)


def _key(config: Config, start: int) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.key(config.seed), start)
