"""The intervals on which an activation is affine: what a lift in depth needs.

Where σ(z) = slope z + intercept for all inputs that the training data produce, a layer computes an
affine map and the network is, near its parameters, a shallower one.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from phenodl.models import mlp
from phenodl.models.mlp import Activation

_FAR = 10.0  # how far an infinite interval is probed


class AffineInterval(NamedTuple):
    """An interval on which an activation is σ(z) = slope z + intercept.

    Attributes:
        low: its lower end, -inf for none.
        high: its upper end, inf for none.
        slope: not zero where a layer is to carry a signal.
        intercept: the value that the affine function takes at 0.
    """

    low: float
    high: float
    slope: float = 1.0
    intercept: float = 0.0


_SELU_SCALE = 1.0507009873554804934193349852946  # Klambauer et al., NeurIPS 2017

_POSITIVE = AffineInterval(0.0, math.inf)
_KNOWN: dict[Activation, tuple[AffineInterval, ...]] = {
    jax.nn.identity: (AffineInterval(-math.inf, math.inf),),
    jax.nn.relu: (_POSITIVE, AffineInterval(-math.inf, 0.0, slope=0.0)),
    jax.nn.leaky_relu: (_POSITIVE, AffineInterval(-math.inf, 0.0, slope=0.01)),
    jax.nn.elu: (_POSITIVE,),
    jax.nn.celu: (_POSITIVE,),
    jax.nn.selu: (AffineInterval(0.0, math.inf, slope=_SELU_SCALE),),
    jax.nn.relu6: (
        AffineInterval(0.0, 6.0),
        AffineInterval(-math.inf, 0.0, slope=0.0),
        AffineInterval(6.0, math.inf, slope=0.0, intercept=6.0),
    ),
    jax.nn.hard_tanh: (
        AffineInterval(-1.0, 1.0),
        AffineInterval(-math.inf, -1.0, slope=0.0, intercept=-1.0),
        AffineInterval(1.0, math.inf, slope=0.0, intercept=1.0),
    ),
    jax.nn.hard_sigmoid: (
        AffineInterval(-3.0, 3.0, slope=1 / 6, intercept=0.5),
        AffineInterval(-math.inf, -3.0, slope=0.0),
        AffineInterval(3.0, math.inf, slope=0.0, intercept=1.0),
    ),
    jax.nn.hard_silu: (
        AffineInterval(3.0, math.inf),
        AffineInterval(-math.inf, -3.0, slope=0.0),
    ),
}
_CURVED = {
    *(mlp.tanh, jnp.tanh, jax.nn.tanh, jax.nn.sigmoid, jax.nn.soft_sign),
    *(jax.nn.gelu, jax.nn.silu, jax.nn.softplus, jax.nn.mish),
}


def affine_intervals(activation: Activation) -> tuple[AffineInterval, ...]:
    """The intervals on which an activation of jax or of phenodl is affine.

    Args:
        activation: elementwise, known by its identity: ``jax.nn.elu``, not a function that calls
            it.

    Returns:
        The intervals, first the one whose slope is largest; neighbours touch at their ends.

    Raises:
        ValueError: the activation has none, or is not known.

    Example:
        >>> affine_intervals(jax.nn.elu)
        (AffineInterval(low=0.0, high=inf, slope=1.0, intercept=0.0),)
    """
    name = getattr(activation, "__name__", repr(activation))
    if activation in _CURVED:
        raise ValueError(
            f"activation: {name} is affine on no interval, and so has no exact lift; "
            "use approximate_lift"
        )
    if activation not in _KNOWN:
        raise ValueError(
            f"activation: {name} is not known; give its interval=AffineInterval(...), or use "
            "approximate_lift if it has none"
        )
    return _KNOWN[activation]


def require_affine(activation: Activation, interval: AffineInterval) -> None:
    """Refuses an interval on which an activation is not the affine function that it names.

    The two are compared at 33 points, over a stretch of 10 where the interval is infinite.

    Args:
        activation: elementwise; one that depends on traced values cannot be checked, and passes.
        interval: of plain numbers.

    Raises:
        ValueError: the interval is empty, its slope is zero, or the two differ by more than
            rounding.

    Example:
        >>> require_affine(jax.nn.relu, AffineInterval(0.0, 2.0))
    """
    low, high, slope, intercept = interval
    if not low < high:
        raise ValueError(f"interval: expected low < high, got {low} and {high}")
    if not (math.isfinite(slope) and slope != 0):
        raise ValueError(f"interval: expected a slope other than 0, got {slope}")
    if math.isinf(low) and math.isinf(high):
        low, high = -_FAR, _FAR
    elif math.isinf(low):
        low = high - _FAR
    elif math.isinf(high):
        high = low + _FAR
    z = np.linspace(low, high, 33)
    with jax.ensure_compile_time_eval():
        dtype = jnp.zeros(()).dtype
        values = activation(jnp.asarray(z, dtype))
        rounding = 16 * float(jnp.finfo(dtype).eps) * (1 + np.abs(z).max())
    if isinstance(values, Tracer):
        return
    error = np.abs(np.asarray(values, float) - (slope * z + intercept)).max()
    if not error <= rounding * (1 + abs(slope)):
        raise ValueError(
            f"interval: the activation departs from {slope:g} z + {intercept:g} by {error:.2g} "
            f"within [{interval.low:g}, {interval.high:g}]"
        )


def steepest_interval(activation: Activation) -> AffineInterval:
    """The known interval of an activation that carries a signal best: the one of largest slope.

    Raises:
        ValueError: the activation has no affine interval, or is not known.

    Example:
        >>> steepest_interval(jax.nn.hard_tanh)
        AffineInterval(low=-1.0, high=1.0, slope=1.0, intercept=0.0)
    """
    return affine_intervals(activation)[0]


def distance_to_kinks(
    preactivations: Float[Array, "..."], activation: Activation
) -> Float[Array, ""]:
    """How far the nearest pre-activation is from an end of an affine interval.

    At such an end a derivative of the activation jumps, and a Hessian next to it says nothing about
    the loss at larger distances.

    Args:
        preactivations: of one or more layers, any shape.
        activation: one that :func:`affine_intervals` knows.

    Returns:
        The smallest distance; infinite if no interval has an end.

    Raises:
        ValueError: the activation has no affine interval, or is not known.

    Example:
        >>> float(distance_to_kinks(jnp.array([-2.0, 0.25]), jax.nn.elu))
        0.25
    """
    ends = {end for each in affine_intervals(activation) for end in (each.low, each.high)}
    kinks = [end for end in ends if math.isfinite(end)]
    distances = [jnp.abs(preactivations - kink).min() for kink in kinks]
    return jnp.stack(distances).min() if distances else jnp.full((), jnp.inf)
