"""Output, gradient and Hessian of many networks at once."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from experiments.embedding.width.chunks import in_chunks
from phenodl.compiler import ONCE
from phenodl.embedding import inertia
from phenodl.models import mlp
from phenodl.models.mlp import Params

_CHUNK = 64
_COUNTED = 256  # spectra in a chunk
_LONGER = 64  # spectra are filled up to a multiple of this length, so that they share a program

Signs = Int[np.ndarray, "rows 3"]
"""Numbers of negative, zero and positive eigenvalues."""


class Measured(NamedTuple):
    """Networks at their points, one row each.

    Attributes:
        output: for all data.
        loss: mean squared error.
        grad_norm: Euclidean norm of the gradient.
        hessian: zero on parameters that are not in use.
    """

    output: Float[Any, "rows outputs n"]
    loss: Float[Any, " rows"]
    grad_norm: Float[Any, " rows"]
    hessian: Float[Any, "rows parameters parameters"]


def measure(
    params: Params,
    used: Bool[np.ndarray, "rows parameters"],
    inputs: Float[np.ndarray, "features n"],
    targets: Float[np.ndarray, "rows outputs n"],
) -> Measured:
    """Measures networks of one architecture, some of whose units may be idle.

    An idle unit has no weights, so that it changes neither the output nor the derivatives by the
    parameters that are in use.

    Args:
        params: leading axis over the rows.
        used: parameters that are not those of idle units, raveled.
        inputs: one column per data point.
        targets: of each row.
    """
    return in_chunks(functools.partial(_measure, inputs=inputs), _CHUNK, params, used, targets)


def signs(
    values: Float[np.ndarray, "rows n"], idle: Int[np.ndarray, " rows"] | int = 0
) -> tuple[Signs, Bool[np.ndarray, " rows"]]:
    """The inertia of symmetric matrices, and whether it is clear of rounding.

    A zero must be one to rounding: an eigenvalue that is larger, but below the bound of a zero, may
    be an embedding's of a small one of the narrow network.

    Args:
        values: their eigenvalues.
        idle: how many of these are zero because they belong to idle parameters; not counted.
    """
    added = -values.shape[1] % _LONGER
    counts = in_chunks(_count, _COUNTED, np.pad(values, ((0, 0), (0, added))))
    numbers = np.stack(counts[:3], axis=-1)
    numbers[:, 1] -= idle + added
    size = np.abs(values)
    rounding = values.shape[1] * np.finfo(values.dtype).eps
    share = size / size.max(axis=1, keepdims=True)
    between = (share > rounding) & (share <= inertia.RTOL)
    return numbers, counts.determined & ~between.any(axis=1)


_count = jax.jit(inertia.inertia, compiler_options=dict(ONCE))


@functools.partial(jax.jit, compiler_options=dict(ONCE))
def _measure(
    params: Params,
    used: Bool[Array, "rows parameters"],
    targets: Float[Array, "rows outputs n"],
    *,
    inputs: Float[Array, "features n"],
) -> Measured:
    return jax.vmap(lambda params, used, targets: _measure_one(params, used, targets, inputs))(
        params, used, targets
    )


def _measure_one(
    params: Params,
    used: Bool[Array, " parameters"],
    targets: Float[Array, "outputs n"],
    inputs: Float[Array, "features n"],
) -> Measured:
    flat, unravel = ravel_pytree(params)

    def output(flat: Float[Array, " parameters"]) -> Float[Array, "outputs n"]:
        return mlp.apply(unravel(flat), inputs)

    def loss(flat: Float[Array, " parameters"]) -> Float[Array, ""]:
        return jnp.mean((output(flat) - targets) ** 2)

    def gradient(flat: Float[Array, " parameters"]) -> tuple[Array, Array]:
        value, slope = jax.value_and_grad(loss)(flat)
        return jnp.where(used, slope, 0.0), value

    hessian, value = jax.jacfwd(gradient, has_aux=True)(flat)
    slope, _ = gradient(flat)
    hessian = jnp.where(used[None] & used[:, None], hessian, 0.0)
    return Measured(output(flat), value, jnp.linalg.norm(slope), (hessian + hessian.T) / 2)
