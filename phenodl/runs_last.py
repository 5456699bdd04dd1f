"""Arithmetic on pytrees that hold one run, or a block of runs along the last axis of every array.

What belongs to a run as a whole (a step size, a norm, whether it still trains) is then a scalar, or
a vector over the runs.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree


def spread(numbers: Array, leaf: Array) -> Array:
    """Numbers of the runs, shaped to meet an array that has the runs last.

    Example:
        >>> spread(jnp.ones(5), jnp.ones((2, 3, 5))).shape
        (1, 1, 5)
    """
    return numbers.reshape((1,) * (leaf.ndim - numbers.ndim) + numbers.shape)


def scale(numbers: Float[Array, "*runs"], leaf: Float[Array, "..."]) -> Float[Array, "..."]:
    """Each run's number times its part of an array.

    Example:
        >>> scale(jnp.array([1.0, 2.0]), jnp.ones((1, 2))).tolist()
        [[1.0, 2.0]]
    """
    return spread(numbers, leaf) * leaf


def add(tree: PyTree, numbers: Float[Array, "*runs"], direction: PyTree) -> PyTree:
    """Tree + numbers · direction, with each run's own number.

    Example:
        >>> add({"x": jnp.ones(2)}, jnp.array(2.0), {"x": jnp.ones(2)})["x"].tolist()
        [3.0, 3.0]
    """
    return jax.tree.map(lambda leaf, move: leaf + scale(numbers, move), tree, direction)


def inner(a: PyTree, b: PyTree, run_axes: int) -> Float[Array, "*runs"]:
    """The inner product of each run.

    Args:
        a: a pytree of arrays.
        b: another of the same shapes.
        run_axes: 1 when the last axis is that of the runs, 0 for one run.

    Example:
        >>> inner(jnp.ones((3, 2)), jnp.ones((3, 2)), run_axes=1).tolist()
        [3.0, 3.0]
    """
    products = [
        (left * right).sum(tuple(range(left.ndim - run_axes)))
        for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return functools.reduce(jnp.add, products)


def where(mask: Bool[Array, "*runs"], new: PyTree, old: PyTree) -> PyTree:
    """Chooses between two pytrees, run by run.

    Example:
        >>> where(jnp.array([True, False]), jnp.ones((1, 2)), jnp.zeros((1, 2))).tolist()
        [[1.0, 0.0]]
    """
    return jax.tree.map(lambda a, b: jnp.where(spread(mask, a), a, b), new, old)
