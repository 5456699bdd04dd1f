"""The smallest rank that fits the observed entries exactly, between a lower and an upper bound.

Host code in float64 for many small instances at once: it tells what a trained model is held
against, and never runs inside training.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

_DEPENDENT = 1e-9
"""A singular value of a generic Jacobian below this share of the largest is zero up to rounding."""
_DAMPING_FLOOR = 1e-13
"""Of Levenberg-Marquardt, relative to the trace: less, and the normal equations are singular."""
_FITTED = 1e-12
"""Residual norm, relative to the data, at which a fit counts as exact."""


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
    mask, rank = np.asarray(mask, bool), np.asarray(rank)
    target = np.where(mask, np.asarray(target, float), 0.0)
    if target.ndim != 3 or mask.shape != target.shape or rank.shape != target.shape[:1]:
        raise ValueError(
            "target and mask must be (instances, rows, columns) and rank (instances,), "
            f"got {target.shape}, {mask.shape} and {rank.shape}"
        )
    if rank.size and not 0 < rank.min() <= rank.max() <= min(target.shape[1:]):
        raise ValueError(f"rank must be in [1, {min(target.shape[1:])}], got {rank.tolist()}")
    if not np.isfinite(target).all():
        raise ValueError("target must be finite where it is observed")

    rng = np.random.default_rng(seed)
    lower = generic_minimum_rank(mask, rank, rng)
    upper = rank.copy()
    for k in range(1, int(rank.max(initial=0))):
        open_ = np.flatnonzero((lower <= k) & (k < upper))
        for _ in range(starts):
            if open_.size == 0:
                break
            fitted = _fit(target[open_], mask[open_], k, rng, iterations)
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
    seen = _jacobian(left, right) * mask.reshape(count, -1, 1)
    values = np.linalg.svd(seen, compute_uv=False)
    return (values > _DEPENDENT * values[:, :1]).sum(1)


def _jacobian(
    left: Float[np.ndarray, "instances rows k"], right: Float[np.ndarray, "instances k columns"]
) -> Float[np.ndarray, "instances entries parameters"]:
    """The derivative of every entry of G H with respect to G and H, each flattened row by row."""
    count, rows = left.shape[:2]
    columns = right.shape[2]
    by_left = np.einsum("pq,nkj->npjqk", np.eye(rows), right)
    by_right = np.einsum("nik,jc->nijkc", left, np.eye(columns))
    entries = (count, rows * columns, -1)
    return np.concatenate([by_left.reshape(entries), by_right.reshape(entries)], axis=2)


def _fit(
    target: Float[np.ndarray, "instances rows columns"],
    mask: Bool[np.ndarray, "instances rows columns"],
    k: int,
    rng: np.random.Generator,
    iterations: int,
) -> Bool[np.ndarray, " instances"]:
    """Whether Levenberg-Marquardt from one random start finds an exact fit of rank k."""
    count, rows, columns = target.shape
    size = np.linalg.norm(target, axis=(1, 2))
    # Entries of G H then have about the size of the data's.
    scale = np.sqrt(np.maximum(size, np.finfo(float).tiny))[:, None, None] / k**0.25
    left = scale * rng.standard_normal((count, rows, k)) / rows**0.5
    right = scale * rng.standard_normal((count, k, columns)) / columns**0.5
    damping = np.full(count, 1e-2)
    fitted = np.zeros(count, bool)

    active = np.arange(count)
    for _ in range(iterations):
        residual = mask[active] * (left[active] @ right[active] - target[active])
        error = np.linalg.norm(residual, axis=(1, 2))
        done = error <= _FITTED * size[active]
        fitted[active[done]] = True
        active, residual, error = active[~done], residual[~done], error[~done]
        if active.size == 0:
            break
        new_left, new_right = _levenberg_marquardt_step(
            left[active], right[active], mask[active], residual, damping[active]
        )
        new_residual = mask[active] * (new_left @ new_right - target[active])
        better = np.linalg.norm(new_residual, axis=(1, 2)) < error
        left[active[better]], right[active[better]] = new_left[better], new_right[better]
        damping[active] = np.maximum(damping[active] * np.where(better, 0.1, 4), _DAMPING_FLOOR)
    return fitted


def _levenberg_marquardt_step(
    left: Float[np.ndarray, "instances rows k"],
    right: Float[np.ndarray, "instances k columns"],
    mask: Bool[np.ndarray, "instances rows columns"],
    residual: Float[np.ndarray, "instances rows columns"],
    damping: Float[np.ndarray, " instances"],
) -> tuple[Float[np.ndarray, "instances rows k"], Float[np.ndarray, "instances k columns"]]:
    """Solves (J Jᵀ + damping tr(J Jᵀ)) y = residual over the entries and moves by -Jᵀ y."""
    count, rows, k = left.shape
    jacobian = _jacobian(left, right) * mask.reshape(count, -1, 1)
    normal = jacobian @ jacobian.swapaxes(1, 2)
    shift = damping * np.trace(normal, axis1=1, axis2=2)
    normal += shift[:, None, None] * np.eye(normal.shape[1])
    solution = np.linalg.solve(normal, residual.reshape(count, -1, 1))
    move = (jacobian.swapaxes(1, 2) @ solution)[:, :, 0]
    by_left, by_right = np.split(move, [rows * k], axis=1)
    return left - by_left.reshape(left.shape), right - by_right.reshape(right.shape)
