"""The set of lifts: which random units keep all data within an affine interval.

A layer can be a lifted one only if each of its units does. A unit here has weights uniform in a
cube and a bias uniform in [-BIAS, BIAS]; the share of such units is the volume of the set of
admissible ones relative to that box.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.embedding.depth.config import Config
from phenodl.data import tables

BIAS = 2.0
COUNTS = (2, 5, 10, 20, 40, 80, 150)
"""Numbers of flowers, the first ones of an order: the larger sets contain the smaller ones."""
SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Half sides of the cube of weights."""
LAYER = 4
"""Units of the layers that are normalised across units."""
NORMS = ("none", "batch", "layer")
INTERVALS = ("[0, ∞)", "[-1, 1]")


class Admissible(NamedTuple):
    """Shares of units within an interval on all data.

    Attributes:
        by_count: with weights of half side 1, by the number of data.
        by_size: with all data, by the half side of the cube of weights.
        bare: units within the interval with all data, normalised with neither scale nor shift, by
            kind of normalisation; for layers, whole layers.
    """

    by_count: dict[tuple[str, str], Float[np.ndarray, "orders counts"]]
    by_size: dict[tuple[str, str], Float[np.ndarray, "orders sizes"]]
    bare: dict[tuple[str, str], int]


def measure(config: Config) -> Admissible:
    """Draws units for each order of the flowers, and counts those within an interval."""
    inputs, _ = tables.iris()
    random = np.random.default_rng(config.seed)
    pairs = [(norm, interval) for norm in NORMS for interval in INTERVALS]
    by_count = {pair: np.empty((config.orders, len(COUNTS))) for pair in pairs}
    by_size = {pair: np.empty((config.orders, len(SIZES))) for pair in pairs}
    bare = dict.fromkeys(pairs, 0)
    layers = config.units // LAYER
    for order in range(config.orders):
        x = inputs[random.permutation(len(inputs))].T
        weight = random.uniform(-1, 1, (layers * LAYER, 3))
        bias = random.uniform(-BIAS, BIAS, len(weight))
        for norm in NORMS:
            for column, count in enumerate(COUNTS):
                z = normalise(weight @ x[:, :count], norm)
                _fill(by_count, norm, (order, column), within(z + bias[:, None]))
            for column, size in enumerate(SIZES):
                z = normalise(size * weight @ x, norm)
                _fill(by_size, norm, (order, column), within(z + bias[:, None]))
            kept = within(normalise(weight @ x, norm))
            for interval, inside in zip(INTERVALS, kept, strict=True):
                if norm == "layer":
                    inside = inside.reshape(-1, LAYER).all(1)
                bare[norm, interval] += int(inside.sum())
    return Admissible(by_count, by_size, bare)


def normalise(z: Float[np.ndarray, "units n"], norm: str) -> Float[np.ndarray, "units n"]:
    """Mean 0 and variance 1 over the data, or over the units of each layer; or as it is."""
    if norm == "batch":
        return (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    if norm == "layer":
        grouped = z.reshape(-1, LAYER, z.shape[1])
        grouped = (grouped - grouped.mean(1, keepdims=True)) / grouped.std(1, keepdims=True)
        return grouped.reshape(z.shape)
    return z


def within(z: Float[np.ndarray, "units n"]) -> tuple[np.ndarray, np.ndarray]:
    """Whether a unit's values all lie in each of the intervals."""
    least, most = z.min(1), z.max(1)
    return least >= 0, (least >= -1) & (most <= 1)


def _fill(shares: dict, norm: str, place: tuple[int, int], kept: tuple) -> None:
    for interval, inside in zip(INTERVALS, kept, strict=True):
        shares[norm, interval][place] = inside.mean()
