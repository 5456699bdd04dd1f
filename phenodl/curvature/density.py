"""The spectral density of an operator by stochastic Lanczos quadrature, without its matrix.

The Ritz values of a random start vector, weighted by its squared components along the Ritz vectors,
are a Gauss quadrature of the spectral measure of that vector; on average over vectors that is the
density of the whole spectrum (Golub and Meurant, Matrices, Moments and Quadrature, 2010; Ubaru,
Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017). A few outliers, which dominate the variance of
the higher moments, can be taken out beforehand and enter exactly.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from phenodl.curvature.krylov import begin, grow, ritz
from phenodl.curvature.lanczos import Eigenpairs
from phenodl.curvature.products import Matvec, Params


class Spectrum(NamedTuple):
    """A spectral measure as point masses.

    Attributes:
        nodes: eigenvalues or Ritz values, in no particular order.
        weights: of the nodes, not negative; their sum is one.
    """

    nodes: Float[Array, " points"]
    weights: Float[Array, " points"]


def spectrum(
    matvec: Matvec,
    key: Key[Array, ""],
    like: Params,
    *,
    vectors: int = 8,
    steps: int = 30,
    outliers: Sequence[Eigenpairs] = (),
) -> Spectrum:
    """Estimates the distribution of all eigenvalues from random vectors.

    With s vectors the moments have a relative error of about sqrt(2 / s) times the share of the
    spectrum's weight that a single eigenvalue carries: give the dominant ones as ``outliers``.

    Args:
        matvec: a symmetric operator on pytrees.
        key: of the random vectors.
        like: a pytree with the structure, shapes and dtype of the tangents.
        vectors: how many random vectors; they are independent of each other.
        steps: products per vector; the moments of each vector are exact up to order 2 steps - 1.
        outliers: converged eigenpairs, for instance the largest and the smallest ones, with no
            eigenvector in common. They count exactly, the rest is estimated beside them.

    Returns:
        Spectrum with ``vectors * steps`` points (fewer steps if the dimension is smaller), preceded
        by the outliers. NaN where ``matvec`` is not finite.

    Raises:
        ValueError: ``vectors`` or ``steps`` is less than 1, or there are as many outliers as
            dimensions.

    Example:
        >>> diagonal = jnp.array([1.0, 2.0, 2.0, 7.0])
        >>> points = spectrum(lambda x: diagonal * x, jax.random.key(0), diagonal, vectors=100)
        >>> bool(abs(moments(points, 1)[0] - 3.0) < 0.3)
        True
    """
    if min(vectors, steps) < 1:
        raise ValueError(f"vectors and steps must be at least 1, got {vectors} and {steps}")
    flat, unravel = ravel_pytree(like)
    n, dtype = flat.size, flat.dtype
    known = jnp.concatenate(
        [_rows(pairs.vectors) for pairs in outliers] or [jnp.zeros((0, n), dtype)]
    )
    rest = n - len(known)
    if rest < 1:
        raise ValueError(f"outliers: {len(known)} leave nothing of a space of dimension {n}")

    def complement(vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return vector - jnp.matmul(jnp.matmul(known, vector), known)

    def deflated(vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return complement(ravel_pytree(matvec(unravel(complement(vector))))[0])

    def quadrature(key: Key[Array, ""]) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
        start = complement(jax.random.normal(key, (n,), dtype))
        values, coefficients = ritz(grow(deflated, begin(start[None], min(steps, rest)), first=0))
        return values, coefficients[:, 0] ** 2

    nodes, weights = jax.lax.map(quadrature, jax.random.split(key, vectors))
    exact = [pairs.values for pairs in outliers]
    return Spectrum(
        jnp.concatenate([*exact, nodes.ravel()]),
        jnp.concatenate(
            [jnp.full(len(known), 1 / n, dtype), weights.ravel() * (rest / n / vectors)]
        ),
    )


def smoothed_density(
    spectrum: Spectrum, grid: Float[Array, " points"], width: float | Float[Array, ""]
) -> Float[Array, " points"]:
    """The spectral density smoothed by a Gaussian.

    Args:
        spectrum: from :func:`spectrum`.
        grid: where to evaluate it, in units of the eigenvalues.
        width: the standard deviation of the Gaussian.

    Returns:
        The density, whose integral over all eigenvalues is one.

    Example:
        >>> points = Spectrum(jnp.array([0.0, 1.0]), jnp.array([0.5, 0.5]))
        >>> [round(float(x), 3) for x in smoothed_density(points, jnp.array([0.0, 0.5]), 0.1)]
        [1.995, 0.0]
    """
    offsets = (grid[:, None] - spectrum.nodes[None]) / width
    kernel = jnp.exp(-(offsets**2) / 2) / (width * jnp.sqrt(2 * jnp.pi).astype(offsets.dtype))
    return jnp.matmul(kernel, spectrum.weights)


def moments(spectrum: Spectrum, count: int) -> Float[Array, " count"]:
    """The averages of the first ``count`` powers of the eigenvalues, tr(A^p) / n.

    Example:
        >>> points = Spectrum(jnp.array([1.0, 3.0]), jnp.array([0.5, 0.5]))
        >>> moments(points, 3).tolist()
        [2.0, 5.0, 14.0]
    """
    powers = jnp.cumprod(jnp.broadcast_to(spectrum.nodes, (count, len(spectrum.nodes))), axis=0)
    return jnp.matmul(powers, spectrum.weights)


def _rows(vectors: Params) -> Float[Array, "k n"]:
    return jax.vmap(lambda tree: ravel_pytree(tree)[0])(vectors)
