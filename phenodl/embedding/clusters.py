"""Clusters of the neurons of a layer: those whose (input weights, bias) point the same way.

The number of clusters depends on the parameters, so this is NumPy's, outside of jit.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from phenodl.embedding.networks import Activation, sizes
from phenodl.embedding.symmetries import is_odd

DROPPED = -1
"""The label of units that belong to no cluster."""

Rows = Float[np.ndarray, "units fan_in_and_bias"]
Columns = Float[np.ndarray, "units fan_out"]


def clusters(
    inward: Rows,
    outward: Columns,
    activation: Activation,
    *,
    angle: float,
    rtol: float,
    atol: float,
) -> Int[np.ndarray, " units"]:
    """The cluster of each unit of a layer, or ``DROPPED``.

    Complete linkage on the angles between (input weights, bias): the two clusters whose union has
    the smallest diameter are joined while that is at most ``angle``. Where the activation is odd
    the angle is that between lines, as a unit and its negative are the same; else opposite units
    are far from each other.

    Args:
        inward: input weights and, if there is one, the bias; one row per unit.
        outward: output weights, one row per unit.
        activation: of the units.
        angle: in radians.
        rtol: the smallest units that together have at most this share of the size of the layer, see
            :func:`phenodl.embedding.networks.sizes`, are dropped, ...
        atol: ... and so are those whose sizes add up to this number.

    Returns:
        Labels 0, 1, ... in the order of size, the largest cluster first.

    Example:
        >>> rows = np.array([[1.0, 0.0], [-1.0, 0.01], [0.0, 3.0], [0.0, 0.0]])
        >>> tolerances = {"angle": 0.1, "rtol": 1e-3, "atol": 1e-3}
        >>> clusters(rows, np.ones((4, 1)), np.tanh, **tolerances).tolist()
        [1, 1, 0, -1]
    """
    size = sizes(inward, outward)
    ascending = np.argsort(size, kind="stable")
    kept = np.empty(len(size), bool)
    kept[ascending] = np.cumsum(size[ascending]) > atol + rtol * size.sum()

    label = np.full(len(size), DROPPED)
    if kept.any():
        groups = _linked(inward[kept], activation, angle)
        totals = np.bincount(groups, size[kept])
        rank = np.empty(len(totals), int)
        rank[np.argsort(-totals, kind="stable")] = np.arange(len(totals))
        label[kept] = rank[groups]
    return label


def _linked(inward: Rows, activation: Activation, angle: float) -> Int[np.ndarray, " units"]:
    """Numbers of the complete-linkage clusters, from 0."""
    if len(inward) == 1:
        return np.zeros(1, int)
    directions = inward / np.linalg.norm(inward, axis=1, keepdims=True)
    cosines = directions @ directions.T
    cosines = np.abs(cosines) if is_odd(activation) else cosines
    angles = np.arccos(np.clip(cosines, -1.0, 1.0))
    np.fill_diagonal(angles, 0.0)
    tree = hierarchy.linkage(squareform(angles, checks=False), "complete")
    return hierarchy.fcluster(tree, angle, "distance") - 1
