"""Derivatives of a loss along directions, each in the form that costs least.

Repeated products with one Hessian (Lanczos) want a single linearization of the gradient, whose
gradient the optimizer uses as well. A quadratic form along a known vector wants none: two nested
forward derivatives give it without a backward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

Params = PyTree[Float[Array, "..."]]
LossFn = Callable[[Any], Float[Array, ""]]
Matvec = Callable[[Any], Any]


def linearize(loss: LossFn, params: Params) -> tuple[Float[Array, ""], Params, Matvec]:
    """Loss, gradient and Hessian-vector product from one linearization.

    Args:
        loss: maps parameters to a scalar.
        params: the point, any pytree of floating arrays.

    Returns:
        The loss, its gradient, and ``hvp(tangent)``: the Hessian at ``params`` times a tangent of
        the same structure. Every call of ``hvp`` reuses the stored linearization.

    Example:
        >>> import jax.numpy as jnp
        >>> _, grads, hvp = linearize(lambda x: (x**3).sum(), jnp.array([1.0, 2.0]))
        >>> grads.tolist(), hvp(jnp.ones(2)).tolist()
        ([3.0, 12.0], [6.0, 12.0])
    """
    (value, grads), pushforward = jax.linearize(jax.value_and_grad(loss), params)
    return value, grads, lambda tangent: pushforward(tangent)[1]


def bilinear_form(loss: LossFn, params: Params, left: Params, right: Params) -> Float[Array, ""]:
    """The number left^T H right with the Hessian H at ``params``, forward only.

    Args:
        loss: maps parameters to a scalar.
        params: the point.
        left: a tangent, same structure as ``params``.
        right: a tangent, same structure as ``params``.

    Returns:
        A scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda x: x[0] ** 2 * x[1]
        >>> left, right = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
        >>> float(bilinear_form(loss, jnp.array([3.0, 5.0]), left, right))
        6.0
    """

    def slope(point: Params) -> Float[Array, ""]:
        return jax.jvp(loss, (point,), (right,))[1]

    return jax.jvp(slope, (params,), (left,))[1]


def quadratic_form(
    loss: LossFn, params: Params, tangent: Params
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Loss, slope and curvature along one direction, forward only.

    Args:
        loss: maps parameters to a scalar.
        params: the point.
        tangent: the direction, same structure as ``params``; it is not normalised.

    Returns:
        Three scalars: the loss L, the slope ``tangent^T grad L`` and the curvature
        ``tangent^T H tangent``. Without a backward pass this costs less than a product with H.

    Example:
        >>> import jax.numpy as jnp
        >>> point, tangent = jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])
        >>> [float(x) for x in quadratic_form(lambda x: (x**3).sum(), point, tangent)]
        [9.0, 15.0, 18.0]
    """

    def along(point: Params) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return jax.jvp(loss, (point,), (tangent,))

    (value, slope), (_, curvature) = jax.jvp(along, (params,), (tangent,))
    return value, slope, curvature
