"""Extreme eigenpairs of a symmetric operator by guarded, warm-started block Lanczos.

``lanczos`` spends a fixed number of products and lives inside a training step; ``eigenpairs``
restarts until a tolerance is met. Both answer with residuals and ``converged``, never with an
exception or a loop that does not end.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from phenodl.curvature.krylov import FlatMatvec, Krylov, begin, grow, restart, ritz, rotate
from phenodl.curvature.products import Matvec, Params

Which = Literal["largest", "smallest"]


class Eigenpairs(NamedTuple):
    """Ritz approximations of the k extreme eigenpairs, the most extreme first.

    Attributes:
        values: eigenvalues, descending for "largest", ascending for "smallest".
        vectors: orthonormal eigenvectors, a pytree like the start with leading axis k.
        residuals: the norms ``|A v - value v|``; some eigenvalue lies within each of its value.
        converged: whether the residual meets the tolerance.
        products: how many times the operator was applied.
    """

    values: Float[Array, " k"]
    vectors: Params
    residuals: Float[Array, " k"]
    converged: Bool[Array, " k"]
    products: Int[Array, ""]


class _Flat(NamedTuple):
    """The problem on flat vectors, looking for the largest eigenvalues; ``sign`` undoes that."""

    matvec: FlatMatvec
    start: Float[Array, "k n"]
    unflatten: Callable[[Float[Array, "k n"]], Params]
    sign: int
    tolerance: float

    def eigenpairs(self, krylov: Krylov, products: Int[Array, ""]) -> Eigenpairs:
        """The k largest Ritz pairs of a basis."""
        _, coefficients = ritz(krylov)
        vectors, images = rotate(krylov, coefficients[: len(self.start)])
        values = jnp.sum(vectors * images, axis=1)
        # In units of the scale, for the squares of the residuals may leave the range of the dtype.
        scale = jnp.maximum(krylov.scale, jnp.finfo(images.dtype).tiny)
        relative = jnp.linalg.norm((images - values[:, None] * vectors) / scale, axis=1)
        residuals = relative * scale
        converged = (relative <= self.tolerance) & jnp.isfinite(residuals)
        values = self.sign * values
        return Eigenpairs(values, self.unflatten(vectors), residuals, converged, products)


def _flatten(matvec: Matvec, start: Params, which: Which, tolerance: float | None) -> _Flat:
    if which not in ("largest", "smallest"):
        raise ValueError(f"which: expected 'largest' or 'smallest', got {which!r}")
    sign = 1 if which == "largest" else -1
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], start))
    flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(start)
    limit = float(jnp.finfo(flat.dtype).eps) ** 0.5 if tolerance is None else tolerance

    def apply(vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return sign * ravel_pytree(matvec(unravel(vector)))[0]

    return _Flat(apply, flat, jax.vmap(unravel), sign, limit)


def cold_start(like: Params, k: int = 1) -> Params:
    """Start vectors for the first call, when there is nothing to start from.

    Args:
        like: a pytree with the structure, shapes and dtype of the tangents.
        k: how many eigenpairs are wanted.

    Returns:
        Zeros with a leading axis k, which ``lanczos`` and ``eigenpairs`` replace by pseudo-random
        directions.

    Example:
        >>> cold_start({"weight": jnp.ones((3, 2))}, k=2)["weight"].shape
        (2, 3, 2)
    """
    return jax.tree.map(lambda leaf: jnp.zeros((k, *leaf.shape), leaf.dtype), like)


def lanczos(
    matvec: Matvec,
    start: Params,
    *,
    products: int,
    which: Which = "largest",
    tolerance: float | None = None,
) -> Eigenpairs:
    """The k extreme eigenpairs from a fixed number of products, warm-started.

    The cost is static, so this can run at every step of a training loop: from the vectors of the
    step before, two or three products follow a slowly moving eigenvalue. The values are Ritz values
    of the block Krylov space of the start (Parlett, The Symmetric Eigenvalue Problem, 1980, ch. 11
    to 13); the residuals come from the stored images, not from a recurrence.

    Args:
        matvec: a symmetric operator on pytrees.
        start: k start vectors: a pytree whose leaves have a leading axis k. Their lengths do not
            matter; a zero, duplicate or non-finite one is replaced by a pseudo-random direction.
            Where leading eigenvalues are close and cross, two vectors follow them better than one
            at the same number of products.
        products: applications of ``matvec``, at least k; those beyond the dimension are not spent.
        which: "largest" or "smallest", algebraically.
        tolerance: the residual that counts as converged, relative to the largest ``|A v|`` seen,
            an estimate of the norm of A. By default the square root of the machine epsilon: the
            error of an eigenvalue is of the order of its squared residual over its gap.

    Returns:
        Eigenpairs with k entries. NaN, and not converged, where ``matvec`` is not finite.

    Raises:
        ValueError: if ``products`` or the dimension is smaller than k, or ``which`` is unknown.

    Example:
        >>> diagonal = jnp.array([1.0, 5.0, -2.0])
        >>> pairs = lanczos(lambda x: diagonal * x, jnp.ones((1, 3)), products=3)
        >>> round(float(pairs.values[0]), 4), bool(pairs.converged[0])
        (5.0, True)
    """
    problem = _flatten(matvec, start, which, tolerance)
    k, n = problem.start.shape
    rows = min(products, n)
    if rows < k:
        raise ValueError(f"products: {products} in dimension {n} cannot give {k} eigenpairs")
    krylov = grow(problem.matvec, begin(problem.start, rows), first=0)
    return problem.eigenpairs(krylov, jnp.asarray(rows))


def eigenpairs(
    matvec: Matvec,
    start: Params,
    *,
    which: Which = "largest",
    tolerance: float | None = None,
    max_products: int = 1000,
    basis_size: int | None = None,
) -> Eigenpairs:
    """The k extreme eigenpairs to a tolerance, restarting Lanczos until all have converged.

    Args:
        matvec: a symmetric operator on pytrees.
        start: k start vectors as for ``lanczos``; see ``cold_start``.
        which: "largest" or "smallest", algebraically.
        tolerance: as for ``lanczos``.
        max_products: no new cycle begins after this many applications of ``matvec``.
        basis_size: vectors held at once, more than k; by default ``2 k + 20``.

    Returns:
        Eigenpairs with k entries; ``converged`` says which of them met the tolerance.

    Raises:
        ValueError: if the dimension or ``basis_size`` leaves no room for k eigenpairs, or ``which``
            is unknown.

    Example:
        >>> diagonal = jnp.arange(100.0)
        >>> pairs = eigenpairs(lambda x: diagonal * x, cold_start(diagonal, k=2))
        >>> print(pairs.values.round(2), pairs.converged)
        [99. 98.] [ True  True]
    """
    problem = _flatten(matvec, start, which, tolerance)
    k, n = problem.start.shape
    rows = min(2 * k + 20 if basis_size is None else basis_size, n)
    if rows < k or (rows == k and rows < n):
        raise ValueError(f"basis_size: {rows} in dimension {n} cannot give {k} eigenpairs")
    keep = max(k, min(k + (rows - k) // 3, rows - 1))

    def unfinished(state: tuple[Krylov, Eigenpairs]) -> Bool[Array, ""]:
        _, pairs = state
        moving = jnp.isfinite(pairs.values).all() & ~pairs.converged.all()
        return moving & (pairs.products < max_products)

    def cycle(state: tuple[Krylov, Eigenpairs]) -> tuple[Krylov, Eigenpairs]:
        krylov, pairs = state
        krylov = grow(problem.matvec, restart(krylov, keep), first=keep)
        return krylov, problem.eigenpairs(krylov, pairs.products + (rows - keep))

    krylov = grow(problem.matvec, begin(problem.start, rows), first=0)
    first = krylov, problem.eigenpairs(krylov, jnp.asarray(rows))
    if rows == n:
        return first[1]
    return jax.lax.while_loop(unfinished, cycle, first)[1]
