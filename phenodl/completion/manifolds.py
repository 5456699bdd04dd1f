"""The invariant manifolds of a factorization: how far parameters are, and how to get onto them.

Ω_k = {rank(A) = rank(B) = rank(W_aug) = k}, W_aug the rows of A above the columns of B (MF, arXiv
2405.13721). Along the flow W_aug is multiplied from the left by invertible matrices, dW_aug/dt =
-[[0, G], [Gᵀ, 0]] W_aug with G the gradient in W, so that its rank cannot change, for any mask and
any loss of W. If the observation graph falls apart, G does too, and each component has a hierarchy
of its own: its rows and columns of W_aug. The functions take one factorization; vmap them.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from phenodl.completion.graph import ObservationGraph
from phenodl.models.factorization import Factors, stacked


def distances(factors: Factors) -> Float[Array, " inner"]:
    """Distances of the parameters to Ω_0, Ω_1, ... in the Frobenius norm.

    By Eckart and Young the nearest W_aug of rank at most k lacks the singular values after the
    k-th, so that the distance is the root of the sum of their squares. It is accurate to about
    the rounding of the largest singular value.

    Returns:
        One number for each k below the largest rank that W_aug can have, in descending order.

    Example:
        >>> distances(Factors(jnp.diag(jnp.array([3.0, 4.0])), jnp.zeros((2, 2)))).tolist()
        [5.0, 3.0]
    """
    return _distances(stacked(factors))


def component_distances(
    factors: Factors, members: Bool[Array, "components vertices"]
) -> Float[Array, "components inner"]:
    """Distances to the manifolds of each component of the observation graph.

    Those of component p bound the rank of its rows and columns of W_aug alone, and leave the rest
    of the parameters free.

    Args:
        factors: of a matrix with ``vertices`` rows and columns together.
        members: from :func:`component_members`.

    Returns:
        As :func:`distances`, one row per component.

    Example:
        >>> factors = Factors(jnp.array([[3.0], [1.0]]), jnp.array([[4.0, 0.0]]))
        >>> members = jnp.array([[True, False, True, False], [False, True, False, True]])
        >>> component_distances(factors, members).tolist()
        [[5.0], [1.0]]
    """
    return _distances(jnp.where(members[:, :, None], stacked(factors)[None], 0.0))


def component_members(graph: ObservationGraph) -> Bool[np.ndarray, "components vertices"]:
    """Which rows and then which columns belong to each component.

    Example:
        >>> from phenodl.completion import observation_graph
        >>> component_members(observation_graph([[1, 0], [0, 1]])).astype(int).tolist()
        [[1, 0, 1, 0], [0, 1, 0, 1]]
    """
    component = np.concatenate([graph.row_component, graph.column_component])
    return component == np.arange(graph.count)[:, None]


def place(
    factors: Factors,
    rank: int | Int[Array, ""],
    rotation: Float[Array, "inner inner"] | None = None,
) -> Factors:
    """The nearest parameters with rank(W_aug) ≤ rank, in a chosen basis of the latent directions.

    In the aligned basis, without a rotation, the columns of W_aug are orthogonal, the longest
    first, and those after the first ``rank`` are exactly zero. They stay so in floating point for
    as long as one likes, for their gradient is a product with zeros. A rotation keeps W, the loss
    and the exact flow; but the manifold then hides in cancellations, and the first rounding leaves
    it.

    Args:
        factors: one factorization.
        rank: k, in [0, inner]; it may be traced.
        rotation: an orthogonal Q: A Q and Qᵀ B are returned for aligned A and B.

    Raises:
        ValueError: ``rank`` or the shape of ``rotation`` is out of place.

    Example:
        >>> placed = place(Factors(jnp.eye(2), jnp.diag(jnp.array([2.0, 1.0]))), rank=1)
        >>> placed.A[:, 1].tolist(), placed.B[1].tolist()
        ([0.0, 0.0], [0.0, 0.0])
    """
    rows, inner = factors.A.shape
    if isinstance(rank, int) and not 0 <= rank <= inner:
        raise ValueError(f"rank must be in [0, {inner}], got {rank}")
    if rotation is not None and rotation.shape != (inner, inner):
        raise ValueError(f"rotation must be ({inner}, {inner}), got {rotation.shape}")
    left, values, _ = jnp.linalg.svd(stacked(factors), full_matrices=False)
    used = jnp.arange(len(values)) < jnp.asarray(rank).astype(int)
    kept = jnp.where(used[None], left * values[None], 0.0)
    columns = jnp.pad(kept, ((0, 0), (0, inner - len(values))))
    aligned = Factors(columns[:rows], columns[rows:].T)
    return aligned if rotation is None else rotate(aligned, rotation)


def rotate(factors: Factors, rotation: Float[Array, "inner inner"]) -> Factors:
    """A Q and Qᵀ B: the same W, and the same distances, for every orthogonal Q.

    Example:
        >>> swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> rotate(Factors(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])), swap).A.tolist()
        [[2.0, 1.0]]
    """
    return Factors(factors.A @ rotation, rotation.T @ factors.B)


def _distances(matrix: Float[Array, "*batch vertices inner"]) -> Float[Array, "*batch inner"]:
    squares = jnp.linalg.svd(matrix, compute_uv=False) ** 2
    return jnp.sqrt(jnp.cumsum(squares[..., ::-1], axis=-1)[..., ::-1])
