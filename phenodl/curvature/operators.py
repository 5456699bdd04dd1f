"""Symmetric operators on parameter pytrees, as plain functions from tangent to tangent."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from phenodl.curvature.products import LossFn, Matvec, Params, linearize


def hessian(loss: LossFn, params: Params) -> Matvec:
    """The Hessian of ``loss`` at ``params``, linearized once.

    Args:
        loss: maps parameters to a scalar.
        params: the point, any pytree of floating arrays.

    Returns:
        ``matvec(tangent)``, a pytree like ``params``.

    Example:
        >>> hessian(lambda x: (x**4).sum(), jnp.array([1.0, 2.0]))(jnp.ones(2)).tolist()
        [12.0, 48.0]
    """
    return linearize(loss, params)[2]


def preconditioned(
    matvec: Matvec, diagonal: Params, scale: float | Float[Array, ""] = 1.0
) -> Matvec:
    """The operator ``scale * D^1/2 H D^1/2``, which is similar to ``scale * D H``.

    Being symmetric it has real eigenvalues and orthogonal eigenvectors; those of ``D H`` are
    ``D^1/2`` times them. For Adam, D is ``1 / (sqrt(v_hat) + eps)`` and the scale
    ``(1 - b1) / (1 + b1) / (1 - b1^t)`` (SPIKE, arXiv 2506.04805).

    Args:
        matvec: a symmetric operator H.
        diagonal: the positive diagonal of D, a pytree like the tangents.
        scale: a scalar factor.

    Returns:
        ``matvec(tangent)`` of the new operator.

    Example:
        >>> matvec = preconditioned(lambda x: 3 * x, jnp.array([4.0, 1.0]), scale=0.5)
        >>> matvec(jnp.ones(2)).tolist()
        [6.0, 1.5]
    """
    root = jax.tree.map(jnp.sqrt, diagonal)

    def apply(tangent: Params) -> Params:
        image = matvec(jax.tree.map(jnp.multiply, root, tangent))
        return jax.tree.map(lambda r, i: scale * r * i, root, image)

    return apply


def restrict(matvec: Matvec, mask: Params) -> Matvec:
    """The diagonal block of an operator on the coordinates that a mask selects.

    The operator is zero on the other coordinates, so a block whose eigenvalues are all negative
    has 0 as its largest one here.

    Args:
        matvec: a symmetric operator.
        mask: zeros and ones, a pytree like the tangents.

    Returns:
        ``matvec(tangent)`` of ``M H M``.

    Example:
        >>> matvec = restrict(lambda x: x.sum() * jnp.ones(2), jnp.array([1.0, 0.0]))
        >>> matvec(jnp.array([2.0, 5.0])).tolist()
        [2.0, 0.0]
    """

    def apply(tangent: Params) -> Params:
        image = matvec(jax.tree.map(jnp.multiply, mask, tangent))
        return jax.tree.map(jnp.multiply, mask, image)

    return apply


def layer_masks(params: Params) -> tuple[tuple[str, ...], Params]:
    """One mask per top-level entry of the parameters, to be vmapped over.

    Args:
        params: a dict, list or tuple of layers, each any pytree.

    Returns:
        The names of the layers, and a pytree like ``params`` whose leaves have a leading axis of
        that length: entry i is one on layer i and zero elsewhere.

    Raises:
        ValueError: if ``params`` is a single array, which has no layers.

    Example:
        >>> names, masks = layer_masks({"first": jnp.zeros(2), "second": jnp.zeros(1)})
        >>> names, masks["first"].tolist()
        (('first', 'second'), [[1.0, 1.0], [0.0, 0.0]])
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    if not all(paths):
        raise ValueError("params: expected a dict, list or tuple of layers, got a single array")
    tops = [jax.tree_util.keystr(path[:1], simple=True) for path in paths]
    names = tuple(dict.fromkeys(tops))
    leaves = [
        jnp.stack([jnp.full_like(leaf, top == name) for name in names])
        for top, leaf in zip(tops, jax.tree.leaves(params), strict=True)
    ]
    return names, jax.tree.unflatten(jax.tree.structure(params), leaves)


def dense(matvec: Matvec, like: Params) -> Float[Array, "n n"]:
    """The matrix of an operator, column by column; for small problems.

    Args:
        matvec: a linear operator.
        like: a pytree with the structure, shapes and dtype of its tangents.

    Returns:
        The (n, n) matrix acting on raveled tangents.

    Example:
        >>> dense(lambda x: x[::-1], jnp.zeros(2)).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    flat, unravel = ravel_pytree(like)
    columns = jax.vmap(lambda column: ravel_pytree(matvec(unravel(column)))[0])
    return columns(jnp.eye(flat.size, dtype=flat.dtype)).T
