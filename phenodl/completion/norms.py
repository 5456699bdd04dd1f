"""Measures of rank, from singular values. All take one matrix or a batch of them, matrices last."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NUMERICAL_RANK_RTOL = 1e-4
"""Singular values of W count if they exceed this share of the largest."""


def singular_values(matrix: Float[Array, "*batch rows columns"]) -> Float[Array, "*batch side"]:
    """The singular values, largest first.

    Example:
        >>> singular_values(jnp.diag(jnp.array([1.0, 3.0]))).tolist()
        [3.0, 1.0]
    """
    return jnp.linalg.svd(matrix, compute_uv=False)


def numerical_rank(
    matrix: Float[Array, "*batch rows columns"], rtol: float = NUMERICAL_RANK_RTOL
) -> Int[Array, "*batch"]:
    """The number of singular values s_i > rtol s_1. The zero matrix has rank 0.

    Example:
        >>> int(numerical_rank(jnp.diag(jnp.array([1.0, 1e-3, 1e-5]))))
        2
    """
    values = singular_values(matrix)
    return (values > rtol * values[..., :1]).sum(-1)


def nuclear_norm(matrix: Float[Array, "*batch rows columns"]) -> Float[Array, "*batch"]:
    """The sum of the singular values.

    Example:
        >>> float(nuclear_norm(jnp.diag(jnp.array([1.0, -3.0]))))
        4.0
    """
    return singular_values(matrix).sum(-1)


def effective_rank(matrix: Float[Array, "*batch rows columns"]) -> Float[Array, "*batch"]:
    """The effective number of singular values (Roy and Vetterli, 2007); 0 of the zero matrix.

    Example:
        >>> float(effective_rank(jnp.eye(4)).round(3))
        4.0
    """
    return effective_number(singular_values(matrix))


def effective_number(values: Float[Array, "*batch side"]) -> Float[Array, "*batch"]:
    """The exponential of the entropy of non-negative values, normalised to a sum of 1.

    It grows smoothly from 1 (a single one is positive) to their number (all equal). Where all are
    zero it is 0.

    Example:
        >>> float(effective_number(jnp.array([1.0, 1.0, 0.0])).round(3))
        2.0
    """
    total = values.sum(-1, keepdims=True)
    share = values / jnp.where(total > 0, total, 1)
    entropy = -jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0.0).sum(-1)
    return jnp.where(total[..., 0] > 0, jnp.exp(entropy), 0.0)
