"""The best fit of a given rank to the observed entries, by Levenberg-Marquardt from many starts.

Gradient flow from a small start lingers near the best fits of rank 1, 2, ... (MF, arXiv
2405.13721). Host code in float64 for many small instances at once: every start of every instance
is one row of the batch, and rows that are done leave it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

_TINY = np.finfo(float).tiny
_DAMPING = 1e-2
_DAMPING_FLOOR = 1e-13
"""Relative to the trace of JᵀJ: less, and the normal equations are singular."""
_FITTED = 1e-12
"""Residual norm, relative to the data, at which a fit counts as exact."""
_STATIONARY = 5e-15
"""Gradient norm |Jᵀr|, relative to |J| and the data, that rounding alone can leave."""
_NEAR = 1e-2
"""Cosine |Jᵀr| / |J| |r| below which steps are Newton's: Gauss-Newton is slow near residuals."""
_FINITE = 1e3
"""Norm of a fit, relative to the data, beyond which it is on its way to infinity."""
_SAME = 1e-6
"""Distance, relative to the data, of losses (their square roots) and of matrices that agree."""


class BestFit(NamedTuple):
    """The best fits found.

    Attributes:
        loss: 1/2 Σ (W_ij - M_ij)² over the observed entries.
        matrix: W, the best of all starts.
        agreeing: how many starts ended at this matrix, the best one among them. With one alone,
            a better fit may have been missed.
        attained: whether W is a minimum. If not, the search was still going on when it ended, or
            the loss has no minimum: it falls towards its infimum while entries of W that are not
            observed grow without end (of [[0, 1], [1, ?]] at rank 1, for example).
    """

    loss: Float[np.ndarray, " instances"]
    matrix: Float[np.ndarray, "instances rows columns"]
    agreeing: Int[np.ndarray, " instances"]
    attained: Bool[np.ndarray, " instances"]


class Fit(NamedTuple):
    """Where Levenberg-Marquardt has ended, from one start for each instance.

    Attributes:
        matrix: W = G H.
        residual: its distance from the observed entries, relative to the norm of these.
        stationary: whether the gradient vanished up to rounding, or the fit is exact.
    """

    matrix: Float[np.ndarray, "instances rows columns"]
    residual: Float[np.ndarray, " instances"]
    stationary: Bool[np.ndarray, " instances"]

    @property
    def exact(self) -> Bool[np.ndarray, " instances"]:
        """Whether the observed entries are fitted up to rounding."""
        return self.residual <= _FITTED


def best_fit(
    target: Float[ArrayLike, "instances rows columns"],
    mask: Bool[ArrayLike, "instances rows columns"],
    rank: int,
    *,
    seed: int = 0,
    starts: int = 6,
    iterations: int = 200,
) -> BestFit:
    """The least squared loss on the observed entries over the matrices of rank at most ``rank``.

    Args:
        target: the data; unobserved entries are not read.
        mask: true where an entry is observed.
        rank: of the fits, at most.
        seed: of the starting points.
        starts: random points that the search begins from, for each instance.
        iterations: of each search, at most.

    Raises:
        ValueError: shapes disagree, ``rank`` exceeds the matrix, ``starts`` is less than 1, or an
            observed entry is not finite.

    Example:
        >>> target = np.diag([3.0, 1.0])[None]
        >>> fit = best_fit(target, np.ones((1, 2, 2), bool), rank=1)
        >>> float(fit.loss[0].round(9)), abs(fit.matrix[0].round(9)).tolist()
        (0.5, [[3.0, 0.0], [0.0, 0.0]])
    """
    data, mask = observed(target, mask)
    count, rows, columns = data.shape
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(f"rank must be in [1, {min(rows, columns)}], got {rank}")
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts}")

    every_data, every_mask = np.repeat(data, starts, axis=0), np.repeat(mask, starts, axis=0)
    rng = np.random.default_rng(seed)
    rows_of_starts = fit_from_random_start(every_data, every_mask, rank, rng, iterations)
    fits = Fit(*(part.reshape(count, starts, *part.shape[1:]) for part in rows_of_starts))
    instance, best = np.arange(count), fits.residual.argmin(axis=1)
    matrix, residual = fits.matrix[instance, best], fits.residual[instance, best]
    size = np.linalg.norm(data, axis=(1, 2))
    apart = np.linalg.norm(fits.matrix - matrix[:, None], axis=(2, 3))
    agree = (apart <= _SAME * size[:, None]) & (fits.residual <= residual[:, None] + _SAME)
    finite = np.linalg.norm(matrix, axis=(1, 2)) <= _FINITE * np.where(size > 0, size, 1.0)
    return BestFit(
        loss=0.5 * (residual * size) ** 2,
        matrix=matrix,
        agreeing=agree.sum(axis=1),
        attained=(agree & fits.stationary).any(axis=1) & finite,
    )


def observed(
    target: Float[ArrayLike, "instances rows columns"],
    mask: Bool[ArrayLike, "instances rows columns"],
) -> tuple[Float[np.ndarray, "instances rows columns"], Bool[np.ndarray, "instances rows columns"]]:
    """The data in float64, zero where nothing is observed, and the mask.

    Raises:
        ValueError: shapes disagree, or an observed entry is not finite.

    Example:
        >>> observed([[[2.0, np.nan]]], [[[True, False]]])[0].tolist()
        [[[2.0, 0.0]]]
    """
    mask, target = np.asarray(mask, bool), np.asarray(target, float)
    if target.ndim != 3 or mask.shape != target.shape:
        raise ValueError(
            f"target and mask must be (instances, rows, columns), got {target.shape}, {mask.shape}"
        )
    data = np.where(mask, target, 0.0)
    if not np.isfinite(data).all():
        raise ValueError("target must be finite where it is observed")
    return data, mask


def fit_from_random_start(
    data: Float[np.ndarray, "instances rows columns"],
    mask: Bool[np.ndarray, "instances rows columns"],
    rank: int,
    rng: np.random.Generator,
    iterations: int,
) -> Fit:
    """Levenberg-Marquardt on the factors of W = G H, from one random point for each instance.

    Args:
        data: zero where nothing is observed.
        mask: true where an entry is observed.
        rank: columns of G.
        rng: the source of the starting points.
        iterations: at most.
    """
    count, rows, columns = data.shape
    size = np.linalg.norm(data, axis=(1, 2))
    size = np.where(size > 0, size, 1.0)
    data = data / size[:, None, None]
    scale = rank**-0.25  # the starting W is about as large as the data
    left = scale * rng.standard_normal((count, rows, rank)) / rows**0.5
    right = scale * rng.standard_normal((count, rank, columns)) / columns**0.5
    damping = np.full(count, _DAMPING)
    stationary = np.zeros(count, bool)

    active = np.arange(count)
    for _ in range(iterations):
        if active.size == 0:
            break
        residual = mask[active] * (left[active] @ right[active] - data[active])
        new_left, new_right, done = _step(
            left[active], right[active], mask[active], residual, damping[active]
        )
        stationary[active[done]] = True
        keep = ~done
        active, residual = active[keep], residual[keep]
        new_left, new_right = new_left[keep], new_right[keep]
        new_residual = mask[active] * (new_left @ new_right - data[active])
        # Near a minimum the loss is flat: the last digits of W are found within its rounding.
        limit = (1 + 1e-14) * np.linalg.norm(residual, axis=(1, 2))
        better = np.linalg.norm(new_residual, axis=(1, 2)) <= limit
        left[active[better]], right[active[better]] = new_left[better], new_right[better]
        damping[active] = np.maximum(damping[active] * np.where(better, 0.1, 4), _DAMPING_FLOOR)
    matrix = left @ right
    residual = np.linalg.norm(mask * (matrix - data), axis=(1, 2))
    return Fit(size[:, None, None] * matrix, residual, stationary)


def jacobian(
    left: Float[np.ndarray, "instances rows k"], right: Float[np.ndarray, "instances k columns"]
) -> Float[np.ndarray, "instances entries parameters"]:
    """The derivative of every entry of G H with respect to G and H, each flattened row by row.

    Example:
        >>> jacobian(np.array([[[2.0]]]), np.array([[[3.0]]])).tolist()
        [[[3.0, 2.0]]]
    """
    count, rows, k = left.shape
    columns = right.shape[2]
    by_left = np.einsum("pq,nkj->npjqk", np.eye(rows), right)
    by_right = np.einsum("nik,jc->nijkc", left, np.eye(columns))
    by_left = by_left.reshape(count, rows * columns, rows * k)
    by_right = by_right.reshape(count, rows * columns, k * columns)
    return np.concatenate([by_left, by_right], axis=2)


def _step(
    left: Float[np.ndarray, "instances rows k"],
    right: Float[np.ndarray, "instances k columns"],
    mask: Bool[np.ndarray, "instances rows columns"],
    residual: Float[np.ndarray, "instances rows columns"],
    damping: Float[np.ndarray, " instances"],
) -> tuple[
    Float[np.ndarray, "instances rows k"],
    Float[np.ndarray, "instances k columns"],
    Bool[np.ndarray, " instances"],
]:
    """Moves by the solution of (JᵀJ + damping tr(JᵀJ)) move = -Jᵀr; tells where none is needed."""
    count, rows, k = left.shape
    slope = jacobian(left, right) * mask.reshape(count, -1, 1)
    normal = slope.swapaxes(1, 2) @ slope
    trace = np.trace(normal, axis1=1, axis2=2)
    gradient = slope.swapaxes(1, 2) @ residual.reshape(count, -1, 1)

    error = np.linalg.norm(residual, axis=(1, 2))
    slant = np.linalg.norm(gradient, axis=(1, 2)) / np.maximum(np.sqrt(trace), _TINY)
    bend = np.einsum("nij,ab->niabj", residual, np.eye(k)).reshape(count, rows * k, -1)
    bend = np.where((slant <= _NEAR * error)[:, None, None], bend, 0.0)
    normal[:, : rows * k, rows * k :] += bend
    normal[:, rows * k :, : rows * k] += bend.swapaxes(1, 2)
    shift = np.maximum(damping * trace, _TINY)
    normal += shift[:, None, None] * np.eye(normal.shape[1])
    move = np.linalg.solve(normal, gradient)[:, :, 0]
    by_left, by_right = np.split(move, [rows * k], axis=1)
    new_left = left - by_left.reshape(left.shape)
    new_right = right - by_right.reshape(right.shape)
    return new_left, new_right, (slant <= _STATIONARY) | (error <= _FITTED)
