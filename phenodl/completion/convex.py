"""The smallest nuclear norm that fits the observed entries exactly.

Complete bipartite data have a closed form (MF, arXiv 2405.13721). Any other small instance is
solved by alternating directions, with a certificate: a feasible matrix bounds the minimum from
above, a feasible point of the dual problem from below. In double precision, whatever the caller's
setting: the iterations are compiled for a block of instances, and between two rounds of them the
host drops from the blocks what is finished.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from phenodl.completion.low_rank_fit import observed

LARGEST = 65_536
"""Entries of a matrix, at most: beyond 256 x 256 an instance would take many minutes."""
_BLOCK = 128  # entries of the instances iterated together; few, for the slowest end alone
_ROUND = 50  # iterations between two certificates
_PENALTY = 2.0  # of the augmented Lagrangian at the start, for data of unit spectral norm
_OVER_RELAXATION = 1.6


class MinimumNuclearNorm(NamedTuple):
    """Certified bounds on the minimum nuclear norm.

    Attributes:
        lower: the best value of the dual problem.
        upper: the nuclear norm of the best matrix found that fits.
        solution: that matrix.
    """

    lower: Float[np.ndarray, " instances"]
    upper: Float[np.ndarray, " instances"]
    solution: Float[np.ndarray, "instances rows columns"]

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
    return np.linalg.svd(np.where(blocks, matrix, 0.0), compute_uv=False).sum(-1)


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
        iterations: at most, rounded up to rounds of 50.

    Raises:
        ValueError: shapes disagree, an observed entry is not finite, or the matrices have more
            than ``LARGEST`` entries.

    Example:
        >>> target = np.array([[[2.0, 1.0], [1.0, 0.0]]])
        >>> bounds = minimum_nuclear_norm(target, [[[True, True], [True, False]]])
        >>> bounds.upper.round(6).tolist(), bool(bounds.gap[0] < 1e-9)
        ([2.5], True)
        >>> bounds.solution.round(6).tolist()
        [[[2.0, 1.0], [1.0, 0.5]]]
    """
    data, mask = observed(target, mask)
    _, rows, columns = data.shape
    if rows * columns > LARGEST:
        raise ValueError(
            f"target must have at most {LARGEST} entries for the convex solver,"
            f" got {rows} x {columns}"
        )
    size = np.linalg.svd(data, compute_uv=False).max(-1, initial=0)
    size = np.where(size > 0, size, 1.0)
    unit = data / size[:, None, None]

    # One shape of block for all rounds: the iterations are compiled once.
    width = max(_BLOCK // (rows * columns), 1)
    state = _start(unit)
    active = np.flatnonzero(state.upper > 0)
    for _ in range(0, iterations, _ROUND):
        if active.size == 0:
            break
        for block in np.split(active, range(width, active.size, width)):
            _advance_block(state, unit, mask, block, width)
        unfinished = state.upper[active] - state.lower[active] > gap * state.upper[active]
        active = active[unfinished]
    solution = np.where(mask, data, state.solution * size[:, None, None])
    lower, upper = (np.asarray(bound) * size for bound in (state.lower, state.upper))
    return MinimumNuclearNorm(lower, upper, solution)


class _State(NamedTuple):
    """Of the iterations, on the host or inside a round; the data have spectral norm 1."""

    feasible: Float[Array | np.ndarray, "instances rows columns"]  # Z
    multiplier: Float[Array | np.ndarray, "instances rows columns"]  # over the penalty
    penalty: Float[Array | np.ndarray, " instances"]
    lower: Float[Array | np.ndarray, " instances"]
    upper: Float[Array | np.ndarray, " instances"]
    solution: Float[Array | np.ndarray, "instances rows columns"]  # Z that gave the upper bound


def _start(data: Float[np.ndarray, "instances rows columns"]) -> _State:
    upper = np.linalg.svd(data, compute_uv=False).sum(-1)
    return _State(
        feasible=data.copy(),
        multiplier=np.zeros_like(data),
        penalty=np.full(len(data), _PENALTY),
        lower=np.zeros(len(data)),
        upper=upper,
        solution=data.copy(),
    )


def _advance_block(
    state: _State,
    data: Float[np.ndarray, "instances rows columns"],
    mask: Bool[np.ndarray, "instances rows columns"],
    block: Int[np.ndarray, " block"],
    width: int,
) -> None:
    """One round of these instances, in place; they are repeated to fill the compiled width."""
    filled = np.resize(block, width)
    with jax.enable_x64(True):
        moved = _round(*jax.tree.map(lambda leaf: leaf[filled], (state, data, mask)))
    for before, after in zip(state, moved, strict=True):
        before[block] = np.asarray(after)[: len(block)]


@jax.jit
def _round(
    state: _State,
    data: Float[Array, "instances rows columns"],
    mask: Bool[Array, "instances rows columns"],
) -> _State:
    """A number of iterations, a certificate, and a penalty that balances the residuals."""
    threshold = 1 / jnp.asarray(state.penalty)

    def alternate(_: int, before: tuple[Array, ...]) -> tuple[Array, ...]:
        feasible, multiplier = before[:2]
        low_rank = _shrink(feasible - multiplier, threshold)
        relaxed = _OVER_RELAXATION * low_rank + (1 - _OVER_RELAXATION) * feasible + multiplier
        fitting = jnp.where(mask, data, relaxed)
        return fitting, relaxed - fitting, _norm(fitting - low_rank), _norm(fitting - feasible)

    none = jnp.zeros_like(state.penalty)
    start = (state.feasible, state.multiplier, none, none)
    feasible, multiplier, primal, change = jax.lax.fori_loop(0, _ROUND, alternate, start)

    spectral = jnp.linalg.svd(multiplier, compute_uv=False).max(-1)
    bound = -(multiplier * data).sum((1, 2)) / jnp.maximum(spectral, jnp.finfo(data).tiny)
    nuclear = jnp.linalg.svd(feasible, compute_uv=False).sum(-1)
    better = nuclear < state.upper

    # Neither residual is to lag behind the other by more than a factor of two.
    dual = state.penalty * change
    factor = jnp.where(primal > 2 * dual, 2.0, jnp.where(dual > 2 * primal, 0.5, 1.0))
    return _State(
        feasible=feasible,
        multiplier=multiplier / factor[:, None, None],
        penalty=state.penalty * factor,
        lower=jnp.maximum(state.lower, bound),
        upper=jnp.where(better, nuclear, state.upper),
        solution=jnp.where(better[:, None, None], feasible, state.solution),
    )


def _shrink(
    matrix: Float[Array, "instances rows columns"], threshold: Float[Array, " instances"]
) -> Float[Array, "instances rows columns"]:
    """Takes the threshold off the singular values, down to zero at least.

    From the eigenvectors of the smaller Gram matrix, at less than the cost of a singular value
    decomposition: the small values, which it gets wrong, go to zero.
    """
    tall = matrix.shape[1] >= matrix.shape[2]
    side = matrix if tall else matrix.swapaxes(1, 2)
    squares, basis = jnp.linalg.eigh(side.swapaxes(1, 2) @ side)
    values = jnp.sqrt(jnp.maximum(squares, jnp.finfo(matrix).tiny))
    kept = jnp.maximum(1 - threshold[:, None] / values, 0)
    shrunk = side @ (basis * kept[:, None]) @ basis.swapaxes(1, 2)
    return shrunk if tall else shrunk.swapaxes(1, 2)


def _norm(matrix: Float[Array, "instances rows columns"]) -> Float[Array, " instances"]:
    return jnp.sqrt((matrix * matrix).sum((1, 2)))
