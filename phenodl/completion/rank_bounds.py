"""The smallest rank that fits the observed entries exactly, between a lower and an upper bound.

Host code in float64 for many small instances at once: it tells what a trained model is held
against, and never runs inside training.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from phenodl.completion.low_rank_fit import fit_from_random_start, jacobian, observed

_DEPENDENT = 1e-9
"""A singular value of a generic Jacobian below this share of the largest is zero up to rounding."""


class MinimumRank(NamedTuple):
    """Bounds on the minimum rank; equal where the certificate closes.

    Attributes:
        lower: no matrix of smaller rank fits, for a *generic* ground truth of the stated rank.
            For other data it is an estimate.
        upper: a matrix of this rank fits; one has been found.
    """

    lower: Int[np.ndarray, " instances"]
    upper: Int[np.ndarray, " instances"]

    @property
    def closed(self) -> Bool[np.ndarray, " instances"]:
        """Where the minimum rank is known."""
        return self.lower == self.upper


def minimum_rank(
    target: Float[ArrayLike, "instances rows columns"],
    mask: Bool[ArrayLike, "instances rows columns"],
    rank: Int[ArrayLike, " instances"],
    *,
    seed: int = 0,
    starts: int = 32,
    iterations: int = 200,
) -> MinimumRank:
    """Bounds on the smallest rank of a matrix that agrees with the observed entries.

    Args:
        target: the ground truths; unobserved entries are not read.
        mask: true where an entry is observed.
        rank: of each ground truth, which is itself a witness of its own rank.
        seed: of the generic point and of the starting points.
        starts: fits tried from random points, per instance and rank.
        iterations: of each fit, at most.

    Raises:
        ValueError: shapes disagree, a rank exceeds the matrix, or an observed entry is not finite.

    Example:
        >>> target = np.ones((1, 2, 2))
        >>> bounds = minimum_rank(target, target > 0, [1])
        >>> bounds.lower.tolist(), bounds.upper.tolist()
        ([1], [1])
    """
    data, mask = observed(target, mask)
    rank = np.asarray(rank)
    largest = min(data.shape[1:])
    if rank.shape != data.shape[:1]:
        raise ValueError(f"rank must be one for each of {len(data)} instances, got {rank.shape}")
    if rank.size and not 1 <= rank.min() <= rank.max() <= largest:
        raise ValueError(f"rank must be in [1, {largest}], got {rank.min()} to {rank.max()}")

    rng = np.random.default_rng(seed)
    lower = generic_minimum_rank(mask, rank, rng)
    upper = rank.copy()
    for k in range(1, int(rank.max(initial=0))):
        open_ = np.flatnonzero((lower <= k) & (k < upper))
        for _ in range(starts):
            if open_.size == 0:
                break
            fitted = fit_from_random_start(data[open_], mask[open_], k, rng, iterations).exact
            upper[open_[fitted]] = k
            open_ = open_[~fitted]
    return MinimumRank(lower, upper)


def generic_minimum_rank(
    mask: Bool[np.ndarray, "instances rows columns"],
    rank: Int[np.ndarray, " instances"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " instances"]:
    """The smallest rank whose matrices generically fill the same dimension on the observed entries.

    Matrices of rank k, seen through the mask, form a set whose dimension is the rank of the
    Jacobian of (G, H) -> mask(G H) at a generic point. If at k it is less than at the rank r of the
    ground truth, then almost no matrix of rank r agrees with one of rank k.
    """
    *_, rows, columns = mask.shape
    dimension = np.stack(
        [_generic_dimension(mask, k, rng) for k in range(1, min(rows, columns) + 1)], axis=1
    )
    full = np.take_along_axis(dimension, rank[:, None] - 1, axis=1)
    return np.argmax(dimension >= full, axis=1) + 1


def _generic_dimension(
    mask: Bool[np.ndarray, "instances rows columns"], k: int, rng: np.random.Generator
) -> Int[np.ndarray, " instances"]:
    count, rows, columns = mask.shape
    left, right = rng.standard_normal((1, rows, k)), rng.standard_normal((1, k, columns))
    seen = jacobian(left, right) * mask.reshape(count, -1, 1)
    values = np.linalg.svd(seen, compute_uv=False)
    return (values > _DEPENDENT * values[:, :1]).sum(1)
