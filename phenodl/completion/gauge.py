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
from jaxtyping import Array, Float

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
    columns = jnp.swapaxes(jnp.concatenate([left, jnp.swapaxes(right, 0, 1)]), 0, 1)
    if inner % 2:  # an empty seat: whoever meets a zero column rests
        columns = jnp.concatenate([columns, jnp.zeros_like(columns[:1])])
    seated = jnp.split(columns, 2)
    rounds = len(columns) - 1
    if inner <= _UNROLLED:
        for _ in range(rounds):
            seated = _play(*seated)
    else:
        seated = jax.lax.fori_loop(0, rounds, lambda _, seated: _play(*seated), tuple(seated))
    columns = jnp.swapaxes(jnp.concatenate(seated)[:inner], 0, 1)
    return columns[:rows], jnp.swapaxes(columns[rows:], 0, 1)


def _play(
    first: Float[Array, "half rows_and_columns *runs"],
    second: Float[Array, "half rows_and_columns *runs"],
) -> tuple[Array, Array]:
    """Turns every column of one half against its opponent in the other, and moves all on by a seat.

    One column keeps its seat and the others go around (the circle method): after as many rounds as
    there are others everyone has met everyone once and is back.
    """
    first, second = _rotate(first, second)
    if len(first) == 1:
        return first, second
    return (
        jnp.concatenate([first[:1], second[:1], first[1:-1]]),
        jnp.concatenate([second[1:], first[-1:]]),
    )


def _rotate(
    first: Float[Array, "pairs rows_and_columns *runs"],
    second: Float[Array, "pairs rows_and_columns *runs"],
) -> tuple[Array, Array]:
    """Makes the columns of disjoint pairs orthogonal, by the smaller of the two angles."""
    overlap = (first * second).sum(1)
    difference = (second * second).sum(1) - (first * first).sum(1)
    cotangent = difference / jnp.where(overlap == 0, 1.0, 2 * overlap)  # of twice the angle
    sign = jnp.where(cotangent < 0, -1.0, 1.0)
    tangent = sign / (jnp.abs(cotangent) + jnp.sqrt(1 + cotangent * cotangent))
    tangent = jnp.where(overlap == 0, 0.0, tangent)[:, None]
    cosine = jax.lax.rsqrt(1 + tangent * tangent)
    return cosine * (first - tangent * second), cosine * (second + tangent * first)
