"""The smallest nuclear norm that fits the observed entries exactly.

Complete bipartite data have a closed form (MF, arXiv 2405.13721). Any other small instance is
solved by alternating directions, with a certificate: a feasible matrix bounds the minimum from
above, a feasible point of the dual problem from below. Host code in float64 for many small
instances.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

_PENALTY = 2.0  # of the augmented Lagrangian at the start, for data of unit spectral norm
_OVER_RELAXATION = 1.6
_CHECK_EVERY = 25
_BALANCE_EVERY = 100


class MinimumNuclearNorm(NamedTuple):
    """Certified bounds on the minimum nuclear norm.

    Attributes:
        lower: the best value of the dual problem.
        upper: the nuclear norm of the best matrix found that fits.
    """

    lower: Float[np.ndarray, " instances"]
    upper: Float[np.ndarray, " instances"]

    @property
    def gap(self) -> Float[np.ndarray, " instances"]:
        """The relative distance of the bounds."""
        return (self.upper - self.lower) / np.maximum(self.upper, np.finfo(float).tiny)


def component_nuclear_norm(
    matrix: Float[ArrayLike, "*batch rows columns"], blocks: Bool[ArrayLike, "*batch rows columns"]
) -> Float[np.ndarray, "*batch"]:
    """The sum of the nuclear norms of a matrix's components, Σ_p ||M_p||_*.

    Of complete bipartite data this is the minimum nuclear norm: fill up with zeros between the
    components. Without the rest of the matrix the components are block diagonal up to order, so
    that one decomposition serves all of them.

    Args:
        matrix: entries outside the components are not read.
        blocks: :attr:`phenodl.completion.graph.ObservationGraph.blocks`, of each instance.

    Example:
        >>> float(component_nuclear_norm(np.ones((2, 2)), np.eye(2, dtype=bool)))
        2.0
    """
    return _nuclear_norm(np.where(blocks, matrix, 0.0))


def minimum_nuclear_norm(
    target: Float[ArrayLike, "instances rows columns"],
    mask: Bool[ArrayLike, "instances rows columns"],
    *,
    gap: float = 1e-9,
    iterations: int = 10_000,
) -> MinimumNuclearNorm:
    """Bounds on the smallest nuclear norm of a matrix that agrees with the observed entries.

    Alternating directions on min ||X||_* subject to X = Z, Z fits: X takes a soft threshold of the
    singular values, Z the observed entries. The multiplier lives on the observed entries; scaled to
    spectral norm 1 it is a feasible point of the dual max <Y, M>.

    Args:
        target: the ground truths; unobserved entries are not read.
        mask: true where an entry is observed.
        gap: relative, at which an instance is finished.
        iterations: at most.

    Raises:
        ValueError: shapes disagree, or an observed entry is not finite.

    Example:
        >>> target = np.array([[[2.0, 1.0], [1.0, 0.0]]])
        >>> bounds = minimum_nuclear_norm(target, [[[True, True], [True, False]]])
        >>> bounds.upper.round(6).tolist(), bool(bounds.gap[0] < 1e-9)
        ([2.5], True)
    """
    mask = np.asarray(mask, bool)
    data = np.where(mask, np.asarray(target, float), 0.0)
    if data.ndim != 3 or mask.shape != data.shape:
        raise ValueError(
            f"target and mask must be (instances, rows, columns), got {data.shape}, {mask.shape}"
        )
    if not np.isfinite(data).all():
        raise ValueError("target must be finite where it is observed")
    size = _spectral_norm(data)
    size = np.where(size > 0, size, 1.0)
    data = data / size[:, None, None]

    upper, lower = _nuclear_norm(data), np.zeros(len(data))
    feasible, multiplier = data.copy(), np.zeros_like(data)
    penalty = np.full(len(data), _PENALTY)
    active = np.flatnonzero(upper > 0)
    for iteration in range(1, iterations + 1):
        if active.size == 0:
            break
        known, previous = data[active], feasible[active]
        low_rank, moved = _alternate(previous, multiplier[active], penalty[active])
        feasible[active] = np.where(mask[active], known, moved)
        multiplier[active] = moved - feasible[active]

        if iteration % _BALANCE_EVERY == 0:
            change = _balance(
                feasible[active] - low_rank, feasible[active] - previous, penalty[active]
            )
            penalty[active] *= change
            multiplier[active] /= change[:, None, None]
        if iteration % _CHECK_EVERY == 0:
            dual = -multiplier[active]
            dual /= np.maximum(_spectral_norm(dual), np.finfo(float).tiny)[:, None, None]
            lower[active] = np.maximum(lower[active], (dual * known).sum((1, 2)))
            upper[active] = np.minimum(upper[active], _nuclear_norm(feasible[active]))
            active = active[upper[active] - lower[active] > gap * upper[active]]
    return MinimumNuclearNorm(lower * size, upper * size)


def _alternate(
    feasible: Float[np.ndarray, "instances rows columns"],
    multiplier: Float[np.ndarray, "instances rows columns"],
    penalty: Float[np.ndarray, " instances"],
) -> tuple[
    Float[np.ndarray, "instances rows columns"], Float[np.ndarray, "instances rows columns"]
]:
    """X, the soft-thresholded singular values, and the over-relaxed X plus the multiplier."""
    left, values, right = np.linalg.svd(feasible - multiplier, full_matrices=False)
    shrunk = np.maximum(values - 1 / penalty[:, None], 0)
    low_rank = (left * shrunk[:, None]) @ right
    relaxed = _OVER_RELAXATION * low_rank + (1 - _OVER_RELAXATION) * feasible
    return low_rank, relaxed + multiplier


def _balance(
    primal_residual: Float[np.ndarray, "instances rows columns"],
    change: Float[np.ndarray, "instances rows columns"],
    penalty: Float[np.ndarray, " instances"],
) -> Float[np.ndarray, " instances"]:
    """Factors for the penalty that keep primal and dual residual alike, within a factor of two."""
    primal = np.linalg.norm(primal_residual, axis=(1, 2))
    dual = penalty * np.linalg.norm(change, axis=(1, 2))
    return np.where(primal > 2 * dual, 2.0, np.where(dual > 2 * primal, 0.5, 1.0))


def _spectral_norm(matrix: Float[np.ndarray, "*batch rows columns"]) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False).max(-1)


def _nuclear_norm(matrix: Float[np.ndarray, "*batch rows columns"]) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False).sum(-1)
