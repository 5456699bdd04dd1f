"""The inertia of a Hessian: how many of its eigenvalues are negative, zero and positive.

Zero means zero to rounding. Whether that can be told from small is part of the answer: embedding
adds exact zeros, which come out at about 1e-16 of the largest eigenvalue, and the least of the
others may be as small as it likes.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from phenodl.curvature import operators
from phenodl.protocol import LossFn, Params

RTOL = 1e-12
"""Eigenvalues up to this share of the largest count as zero, in double precision."""

GAP = 100.0
"""The factor between the largest zero and the smallest other one from which they are told apart."""


class Inertia(NamedTuple):
    """Numbers of eigenvalues by sign.

    Attributes:
        negative, zero, positive: how many.
        determined: whether zero and non-zero eigenvalues are clearly apart.
    """

    negative: Int[Array, "*batch"]
    zero: Int[Array, "*batch"]
    positive: Int[Array, "*batch"]
    determined: Bool[Array, "*batch"]


def inertia(
    eigenvalues: Float[Array, "*batch n"],
    rtol: float = RTOL,
    gap: float = GAP,
    *,
    scale: float | Float[Array, "*batch"] = 0.0,
) -> Inertia:
    """Counts eigenvalues by sign.

    Args:
        eigenvalues: of symmetric matrices, in any order.
        rtol: those up to this share of the largest magnitude are zero.
        gap: the inertia is determined if the smallest non-zero magnitude is at least this many
            times the largest zero one, and as many times the rounding error of the decomposition,
            n times the machine precision of the largest.
        scale: counts as the largest magnitude if it is larger. For a block of a larger matrix give
            that of the whole: a block that is zero to rounding has no scale of its own.

    Returns:
        The counts. What is not finite is not counted, and nothing is determined then.

    Example:
        >>> import jax
        >>> with jax.enable_x64(True):
        ...     counts = inertia(jnp.array([[-1.0, 1e-17, 2.0], [1e-13, 9e-12, 1.0]]))
        >>> [each.tolist() for each in counts]
        [[1, 0], [1, 1], [1, 2], [True, False]]
    """
    magnitude, finite = jnp.abs(eigenvalues), jnp.isfinite(eigenvalues)
    largest = jnp.max(magnitude, axis=-1, where=finite, initial=0.0)
    largest = jnp.maximum(largest, jnp.asarray(scale, largest.dtype))
    is_zero = finite & (magnitude <= rtol * largest[..., None])
    is_other = finite & ~is_zero
    rounding = eigenvalues.shape[-1] * jnp.finfo(eigenvalues.dtype).eps * largest
    largest_zero = jnp.max(magnitude, axis=-1, where=is_zero, initial=0.0)
    smallest_other = jnp.min(magnitude, axis=-1, where=is_other, initial=jnp.inf)
    apart = smallest_other >= gap * jnp.maximum(largest_zero, rounding)
    return Inertia(
        negative=((eigenvalues < 0) & is_other).sum(axis=-1),
        zero=is_zero.sum(axis=-1),
        positive=((eigenvalues > 0) & is_other).sum(axis=-1),
        determined=apart & finite.all(axis=-1) & jnp.isfinite(largest),
    )


def spectrum(loss: LossFn, params: Params) -> Float[Array, " n"]:
    """All eigenvalues of the Hessian of ``loss`` at ``params``, ascending; for small networks.

    Example:
        >>> spectrum(lambda x: x[0] ** 2 - 2 * x[1] ** 2, jnp.zeros(2)).tolist()
        [-4.0, 2.0]
    """
    matrix = operators.dense(operators.hessian(loss, params), params)
    return jnp.linalg.eigvalsh(matrix)


def of_hessian(loss: LossFn, params: Params, rtol: float = RTOL, gap: float = GAP) -> Inertia:
    """The inertia of the Hessian of ``loss`` at ``params``; for small networks.

    Args:
        loss: maps parameters to a scalar.
        params: the point, any pytree of floating arrays.
        rtol: as in :func:`inertia`.
        gap: as in :func:`inertia`.

    Example:
        >>> import jax
        >>> with jax.enable_x64(True):
        ...     counts = of_hessian(lambda x: x[0] ** 2 - x[1] ** 2, jnp.zeros(3))
        >>> [int(each) for each in counts]
        [1, 1, 1, 1]
    """
    return inertia(spectrum(loss, params), rtol, gap)
