"""What an activation lets one do to a unit: turn its sign, move its size, drop it if small."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from phenodl.embedding.networks import Activation

_GRID = np.linspace(0.0, 4.0, 33)
_ROUNDING = 1e-6  # relative; the grid is evaluated in single precision unless x64 is on


@functools.cache
def is_odd(activation: Activation) -> bool:
    """Whether σ(-z) = -σ(z): a unit is then the same after all its weights change sign.

    Decided on a grid of points, to rounding.

    Example:
        >>> is_odd(jnp.tanh), is_odd(jax.nn.relu)
        (True, False)
    """
    return _same(_values(activation, -_GRID), -_values(activation, _GRID))


@functools.cache
def is_homogeneous(activation: Activation) -> bool:
    """Whether σ(c z) = c σ(z) for c > 0: a unit's size can lie in its input or output weights.

    Decided on a grid of points, to rounding.

    Example:
        >>> is_homogeneous(jax.nn.relu), is_homogeneous(jnp.tanh)
        (True, False)
    """
    both = np.concatenate([-_GRID, _GRID])
    return _same(_values(activation, 2 * both), 2 * _values(activation, both))


@functools.cache
def vanishes_at_zero(activation: Activation) -> bool:
    """Whether σ(0) = 0: a unit of small input weights and bias then gives little.

    Decided to rounding.

    Example:
        >>> vanishes_at_zero(jnp.tanh), vanishes_at_zero(jax.nn.sigmoid)
        (True, False)
    """
    return _same(_values(activation, np.zeros(1)), np.zeros(1))


def _values(activation: Activation, points: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    with jax.ensure_compile_time_eval():
        return np.asarray(activation(jnp.asarray(points)))


def _same(left: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"]) -> bool:
    return bool(np.allclose(left, right, rtol=_ROUNDING, atol=_ROUNDING))
