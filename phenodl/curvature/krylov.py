"""Orthonormal Krylov bases that never break down: the engine room of Lanczos, on flat vectors.

The basis grows one product at a time and is kept orthonormal by repeated Gram-Schmidt, without
which copies of converged eigenvalues appear. When the next direction is nothing but rounding noise
(the start was an exact eigenvector, or spans an invariant subspace of a disconnected problem), a
pseudo-random direction takes its place, so the search never stops in a subspace and never divides
by zero.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

FlatMatvec = Callable[[Float[Array, " n"]], Float[Array, " n"]]

UNROLLED_ROWS = 8
"""A basis of at most this size is grown without a loop, which small networks would feel."""


class Krylov(NamedTuple):
    """An orthonormal basis (rows), its images, and the k candidates that continue it.

    Candidates are scaled so that a norm of 1 is the length of a start vector or of the longest
    image: one relative threshold then tells rounding noise from a direction.
    """

    basis: Float[Array, "m n"]
    images: Float[Array, "m n"]
    queue: Float[Array, "k n"]
    scale: Float[Array, ""]


def pseudo_random(n: int, salt: int | Int[Array, ""], dtype: jnp.dtype) -> Float[Array, " n"]:
    """A fixed direction of about unit length from an integer hash: no key, nothing to carry.

    Args:
        n: its dimension.
        salt: another salt gives another direction.
        dtype: a floating dtype.

    Returns:
        Entries uniform in ``[-1, 1) * sqrt(3 / n)``.

    Example:
        >>> bool(abs(jnp.linalg.norm(pseudo_random(1000, 7, jnp.float32)) - 1) < 0.1)
        True
    """
    bits = jax.lax.iota(jnp.uint32, n) + jnp.asarray(salt, jnp.uint32) * jnp.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = bits ^ (bits >> 16)
    return (bits.astype(dtype) * (2.0**-31) - 1) * (3 / n) ** 0.5


def _length(vector: Float[Array, " n"]) -> Float[Array, ""]:
    """The norm of a vector whose squares may leave the range of its dtype."""
    size = jnp.max(jnp.abs(vector))
    return size * jnp.linalg.norm(vector / jnp.where(size > 0, size, 1))


def _project(vector: Float[Array, " n"], basis: Float[Array, "m n"]) -> Float[Array, " n"]:
    """The part of a vector that is orthogonal to the orthonormal rows of a basis."""
    return vector - jnp.matmul(jnp.matmul(basis, vector), basis)


def _orthonormal(
    candidate: Float[Array, " n"], basis: Float[Array, "m n"], salt: int | Int[Array, ""]
) -> Float[Array, " n"]:
    """The candidate, or a pseudo-random direction if it adds nothing, orthogonal to the basis.

    Two projections are enough unless the second one takes away most of what the first one left,
    which was then rounding noise (Kahan's criterion: Parlett, section 6.9).
    """
    once = _project(candidate, basis)
    twice = _project(once, basis)
    left = jnp.linalg.norm(once)
    noise = 10 * jnp.finfo(candidate.dtype).eps
    adds = (left > noise) & (jnp.linalg.norm(twice) > left / 2)
    spare = pseudo_random(candidate.size, salt, candidate.dtype)
    direction = _project(_project(jnp.where(adds, twice, spare), basis), basis)
    return direction / jnp.linalg.norm(direction)


def begin(start: Float[Array, "k n"], rows: int) -> Krylov:
    """An empty basis with the start vectors queued, each scaled to unit length.

    A trace of a pseudo-random direction is added, too small to be seen in an eigenvalue: without
    it a warm start could sit in one invariant subspace forever while another one takes the lead.

    Args:
        start: vectors of any length; a zero or non-finite one will be replaced.
        rows: the size of the basis.
    """
    k, n = start.shape
    start = start / jnp.max(jnp.abs(start), axis=1, keepdims=True)
    start = start / jnp.linalg.norm(start, axis=1, keepdims=True)
    trace = jnp.stack([pseudo_random(n, rows + i, start.dtype) for i in range(k)])
    start = start + jnp.finfo(start.dtype).eps ** 0.5 * trace
    empty = jnp.zeros((rows, n), start.dtype)
    return Krylov(empty, empty, start, jnp.zeros((), start.dtype))


def grow(matvec: FlatMatvec, krylov: Krylov, first: int) -> Krylov:
    """Fills the rows of the basis from ``first`` on, at the cost of one product each."""

    def extend(row: int | Int[Array, ""], krylov: Krylov) -> Krylov:
        # The rows still to come are zero; where the loop is unrolled they need not be multiplied.
        filled = krylov.basis[:row] if isinstance(row, int) else krylov.basis
        direction = _orthonormal(krylov.queue[0], filled, row)
        image = matvec(direction)
        scale = jnp.maximum(krylov.scale, _length(image))
        candidate = image / jnp.maximum(scale, jnp.finfo(image.dtype).tiny)
        return Krylov(
            krylov.basis.at[row].set(direction),
            krylov.images.at[row].set(image),
            jnp.concatenate([krylov.queue[1:], candidate[None]]),
            scale,
        )

    rows = len(krylov.basis)
    if rows > UNROLLED_ROWS:
        return jax.lax.fori_loop(first, rows, extend, krylov)
    for row in range(first, rows):
        krylov = extend(row, krylov)
    return krylov


def ritz(krylov: Krylov) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
    """Ritz values, descending, and the coefficients of their vectors in the basis, as rows.

    All are NaN if an image is not finite.
    """
    projected = jnp.matmul(krylov.basis, krylov.images.T)
    finite = jnp.isfinite(projected).all()
    values, columns = jnp.linalg.eigh(jnp.where(finite, projected, 0))
    return jnp.where(finite, values[::-1], jnp.nan), jnp.where(finite, columns.T[::-1], jnp.nan)


def rotate(
    krylov: Krylov, coefficients: Float[Array, "k m"]
) -> tuple[Float[Array, "k n"], Float[Array, "k n"]]:
    """Combinations of the basis vectors, and their images."""
    return jnp.matmul(coefficients, krylov.basis), jnp.matmul(coefficients, krylov.images)


def restart(krylov: Krylov, keep: int) -> Krylov:
    """Compresses the basis to its ``keep`` largest Ritz vectors.

    What the queue adds to the whole basis spans the residuals of all Ritz vectors, so it continues
    the smaller basis too (thick restart: Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000).
    """
    _, coefficients = ritz(krylov)
    vectors, images = rotate(krylov, coefficients[:keep])
    empty = jnp.zeros_like(krylov.basis)
    queue = jax.vmap(_project, in_axes=(0, None))(krylov.queue, krylov.basis)
    return krylov._replace(
        basis=empty.at[:keep].set(vectors), images=empty.at[:keep].set(images), queue=queue
    )
