"""The graded gauge: what lets a factorization start from a standard deviation of 1e-120.

W = A B does not change under A ← A Q, B ← Qᵀ B with orthogonal Q, and neither do the loss and the
flow. In an arbitrary basis all columns of W_aug grow along the direction that grows first, the
others live on in the differences of large numbers, and rounding refills them: plain double
precision is wrong from about 1e-16 down. With orthogonal columns each latent direction is stored at
its own scale, and keeps its relative accuracy however small it is.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from phenodl.models.factorization import Factors
from phenodl.protocol import Transform

_UNROLLED = 8  # sweeps over up to so many columns are compiled without a loop


@functools.cache
def graded(every: int = 8) -> Transform:
    """Keeps the columns of W_aug orthogonal, by one sweep after every few steps.

    Args:
        every: steps between two sweeps. Between them the directions mix again, by a factor of
            about e per step at most with :func:`phenodl.models.factorization.safe_step`.

    Example:
        >>> graded(every=8).every
        8
    """

    def apply(factors: Factors, batch: object) -> Factors:
        del batch
        return Factors(*orthogonalize(*factors))

    return Transform(every, apply)


def orthogonalize(
    left: Float[Array, "rows inner *runs"], right: Float[Array, "inner columns *runs"]
) -> tuple[Float[Array, "rows inner *runs"], Float[Array, "inner columns *runs"]]:
    """Turns the inner basis of a product so that the columns of [left; rightᵀ] become orthogonal.

    One sweep of one-sided Jacobi rotations, which find small singular directions next to large ones
    with high relative accuracy (Demmel and Veselić, SIAM J. Matrix Anal. Appl. 13, 1992). A sweep
    leaves an angle that is quadratic in the one before; repeated sweeps converge.

    Args:
        left: a matrix, or a block of matrices with the runs last.
        right: its partner in the product.

    Returns:
        (left Q, Qᵀ right) with an orthogonal Q. Their product is that of the arguments.

    Example:
        >>> left, right = jnp.array([[1.0, 1.0]]), jnp.array([[1.0], [1.0]])
        >>> turned, _ = orthogonalize(left, right)
        >>> (jnp.abs(turned) > 1e-6).sum().item()  # one of two columns is enough
        1
    """
    rows, inner = left.shape[:2]
    columns = jnp.concatenate([left, jnp.swapaxes(right, 0, 1)])
    columns = jnp.swapaxes(columns, 0, 1)  # (inner, rows and columns, *runs)
    rounds = _tournament(inner)
    if inner <= _UNROLLED:
        for pairs in rounds:
            columns = _rotate(columns, pairs)
    elif inner > 1:
        columns, _ = jax.lax.scan(
            lambda state, pairs: (_rotate(state, pairs), None), columns, jnp.asarray(rounds)
        )
    return jnp.swapaxes(columns[:, :rows], 0, 1), columns[:, rows:]


def _rotate(
    columns: Float[Array, "inner rows_and_columns *runs"], pairs: Int[Array, "2 pairs"]
) -> Float[Array, "inner rows_and_columns *runs"]:
    """Makes the columns of disjoint pairs orthogonal, by the smaller of the two angles."""
    first, second = columns[pairs[0]], columns[pairs[1]]
    overlap = (first * second).sum(1)
    difference = (second * second).sum(1) - (first * first).sum(1)
    cotangent = difference / jnp.where(overlap == 0, 1.0, 2 * overlap)  # of twice the angle
    sign = jnp.where(cotangent < 0, -1.0, 1.0)
    tangent = sign / (jnp.abs(cotangent) + jnp.sqrt(1 + cotangent * cotangent))
    tangent = jnp.where(overlap == 0, 0.0, tangent)[:, None]
    cosine = jax.lax.rsqrt(1 + tangent * tangent)
    turned = cosine * (first - tangent * second), cosine * (second + tangent * first)
    return columns.at[pairs[0]].set(turned[0]).at[pairs[1]].set(turned[1])


@functools.cache
def _tournament(players: int) -> Int[np.ndarray, "rounds 2 pairs"]:
    """Rounds of disjoint pairs in which everyone meets everyone once (the circle method)."""
    seats = list(range(players + players % 2))
    rounds = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        pairs = zip(seats[:half], reversed(seats[half:]), strict=True)
        # With an odd number the last seat is empty, and whoever meets it rests.
        rounds.append([pair for pair in pairs if max(pair) < players])
        seats[1:] = [seats[-1], *seats[1:-1]]
    return np.array(rounds, int).reshape(len(rounds), -1, 2).swapaxes(1, 2)
