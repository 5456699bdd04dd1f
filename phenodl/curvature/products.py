"""Derivatives of a loss along directions, each in the form that costs least.

Repeated products with one Hessian (Lanczos) want a single linearization of the gradient, whose
gradient the optimizer uses as well. A quadratic form along a known vector wants none: two nested
forward derivatives give it without a backward pass.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from phenodl.jaxprs import equations
from phenodl.protocol import value_and_grad

Params = PyTree[Float[Array, "..."]]
LossFn = Callable[[Any], Float[Array, ""]]
Matvec = Callable[[Any], Any]


def linearize(loss: LossFn, params: Params) -> tuple[Float[Array, ""], Params, Matvec]:
    """Loss, gradient and Hessian-vector product from one linearization.

    Args:
        loss: maps parameters to a scalar, or a block of runs along the last axis of every array to
            their losses.
        params: the point, any pytree of floating arrays.

    Returns:
        The loss, its gradient, and ``hvp(tangent)``: the Hessian at ``params`` times a tangent of
        the same structure. Every call of ``hvp`` reuses the stored linearization.

    Raises:
        ValueError: if the loss calls what cannot be differentiated twice.

    Example:
        >>> _, grads, hvp = linearize(lambda x: (x**3).sum(), jnp.array([1.0, 2.0]))
        >>> grads.tolist(), hvp(jnp.ones(2)).tolist()
        ([3.0, 12.0], [6.0, 12.0])
    """
    with twice_differentiable(loss, params):
        (value, grads), pushforward = jax.linearize(value_and_grad(loss), params)

    def hvp(tangent: Params) -> Params:
        with twice_differentiable(loss, params):
            return pushforward(tangent)[1]

    return value, grads, hvp


def bilinear_form(loss: LossFn, params: Params, left: Params, right: Params) -> Float[Array, ""]:
    """The number left^T H right with the Hessian H at ``params``, forward only.

    Args:
        loss: maps parameters to a scalar.
        params: the point.
        left: a tangent, same structure as ``params``.
        right: a tangent, same structure as ``params``.

    Returns:
        A scalar.

    Raises:
        ValueError: if the loss calls what has no forward derivative.

    Example:
        >>> loss = lambda x: x[0] ** 2 * x[1]
        >>> left, right = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
        >>> float(bilinear_form(loss, jnp.array([3.0, 5.0]), left, right))
        6.0
    """

    def slope(point: Params) -> Float[Array, ""]:
        return jax.jvp(loss, (point,), (right,))[1]

    with twice_differentiable(loss, params, forward=True):
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

    Raises:
        ValueError: if the loss calls what has no forward derivative.

    Example:
        >>> point, tangent = jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])
        >>> [float(x) for x in quadratic_form(lambda x: (x**3).sum(), point, tangent)]
        [9.0, 15.0, 18.0]
    """

    def along(point: Params) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return jax.jvp(loss, (point,), (tangent,))

    with twice_differentiable(loss, params, forward=True):
        (value, slope), (_, curvature) = jax.jvp(along, (params,), (tangent,))
    return value, slope, curvature


def normalised(tree: Params) -> tuple[Params, Float[Array, ""]]:
    """A direction divided by its largest entry, and that entry, in absolute value.

    Near a minimum the squares of float32 gradients underflow: quotients of forms are taken of
    normalised directions and scaled last.

    Example:
        >>> direction, size = normalised(jnp.array([1.0, -4.0]))
        >>> direction.tolist(), float(size)
        ([0.25, -1.0], 4.0)
    """
    size = jnp.asarray(optax.tree.max(jax.tree.map(jnp.abs, tree)))
    return jax.tree.map(lambda leaf: leaf / size, tree), size


def require_scalar(loss: Callable[..., Any], *arguments: Any) -> None:
    """Refuses a loss that is not one real number; the loss is traced, not run.

    Args:
        loss: of the user.
        *arguments: what it is called with.

    Raises:
        ValueError: saying what the loss returns instead, and what would be right.

    Example:
        >>> require_scalar(lambda x: x.sum(), jnp.ones(3))
        >>> try:
        ...     require_scalar(lambda x: (x.sum(), x), jnp.ones(3))
        ... except ValueError as error:
        ...     print(str(error).partition(";")[0])
        loss must return one number alone
    """
    value = jax.eval_shape(loss, *arguments)
    if isinstance(value, tuple):
        raise ValueError(
            f"loss must return one number alone; it returns a tuple of {len(value)}: for (loss,"
            " aux), hand in a function that returns the first of them"
        )
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(f"loss must return one number; it returns a {type(value).__name__}")
    if value.shape != ():
        raise ValueError(
            f"loss must return one number; it returns an array of shape {value.shape}: take its"
            " mean, or whatever the gradient is taken of"
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss must return a real number; it returns {value.dtype.name}")


@contextlib.contextmanager
def twice_differentiable(loss: LossFn, params: Params, *, forward: bool = False) -> Iterator[None]:
    """Inside of it, a loss that cannot be differentiated twice is refused in one line.

    A function with a ``jax.custom_vjp`` has no forward derivative, and its backward rule need not
    be differentiable: many hand-written kernels are of that kind.

    Args:
        loss: what is being differentiated.
        params: the point.
        forward: whether both derivatives are forward ones, with no use for a backward rule.

    Raises:
        ValueError: naming the functions with a custom_vjp that the loss calls.

    Example:
        >>> clip = jax.custom_vjp(lambda x: jnp.minimum(x, 1))
        >>> clip.defvjp(lambda x: (clip(x), None), lambda _, cotangent: (cotangent,))
        >>> try:
        ...     quadratic_form(clip, jnp.array(2.0), jnp.array(1.0))
        ... except ValueError as error:
        ...     print(str(error).partition(":")[0])
        the loss has no forward derivative
    """
    try:
        yield
    except (NotImplementedError, TypeError, ValueError) as error:
        if not re.search(r"custom_vjp|JVP|Differentiation rule", str(error)):
            raise
        names = sorted(set(_with_custom_vjp(loss, params)))
        if not names:
            raise
        called = f"it calls {', '.join(names)}, a jax.custom_vjp"
        if forward:
            raise ValueError(
                f"the loss has no forward derivative: {called}, which only goes backward; state"
                " its rule as a jax.custom_jvp, or take a product with the Hessian from linearize"
            ) from None
        raise ValueError(
            f"the loss has no second derivative: {called}, which cannot be differentiated again;"
            " a jax.custom_jvp can"
        ) from None


def _with_custom_vjp(loss: LossFn, params: Params) -> Iterator[str]:
    """The functions with a custom_vjp that a loss calls: names and where they are defined."""
    for equation, _ in equations(jax.make_jaxpr(loss)(params)):
        if equation.primitive.name == "custom_vjp_call":
            yield equation.params["call_jaxpr"].jaxpr.debug_info.func_src_info
