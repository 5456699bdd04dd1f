"""Pruning of layers: a lift in depth undone, exactly or nearly.

A hidden layer that is affine on the training data can be merged into the next one. In a network
that was lifted it is exactly so; in one that was trained deep, layers may be nearly so (EP-d, Bai,
Luo, Xu, Zhang, arXiv 2205.13283).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from phenodl.compiler import ONCE
from phenodl.embedding.depth import root_mean_square
from phenodl.embedding.networks import layers, network, preactivations, require_hidden
from phenodl.models.mlp import Activation, Params


class Linearization(NamedTuple):
    """The best affine stand-in for the activation of a hidden layer, unit by unit.

    Attributes:
        slope: λ of each unit, by least squares over the training data.
        intercept: μ of each unit.
        departure: the share of what the next layer reads that is not affine, the root mean square
            of W (σ(z) - λ z - μ) over that of W σ(z) less its mean; rounding for a lifted layer,
            NaN where a signal is not finite.
    """

    slope: Float[Array, " units"]
    intercept: Float[Array, " units"]
    departure: Float[Array, ""]


def layer_linearization(
    params: Params, layer: int, inputs: Float[Array, "features n"], activation: Activation
) -> Linearization:
    """How affine a hidden layer is on the training data.

    Args:
        params: a network of :mod:`phenodl.models.mlp`.
        layer: a hidden one, from 0.
        inputs: the training data, one column each.
        activation: of the hidden layers.

    Raises:
        ValueError: not such a network, or no such hidden layer.

    Example:
        >>> from phenodl.models import mlp
        >>> params = mlp.init(jax.random.key(0), [1, 4, 1])
        >>> x = jnp.linspace(-1.0, 1.0, 9)[None]
        >>> bool(layer_linearization(params, 0, x, jax.nn.identity).departure < 1e-5)
        True
    """
    require_hidden(params, layer)
    z = preactivations(params, layer, inputs, activation)
    output = activation(z)
    mean_z, mean_output = z.mean(1), output.mean(1)
    centred = z - mean_z[:, None]
    varying = output - mean_output[:, None]
    variance, covariance = (centred * centred).mean(1), (centred * varying).mean(1)
    rounding = (8 * jnp.finfo(z.dtype).eps * jnp.abs(mean_z)) ** 2
    varies = variance > rounding
    slope = jnp.where(varies, covariance / jnp.where(varies, variance, 1.0), 0.0)
    varying = jnp.where(varies[:, None], varying, 0.0)
    weight = params[f"layer_{layer + 1}"]["weight"]
    bent = root_mean_square(weight @ (varying - slope[:, None] * centred))
    whole = root_mean_square(weight @ varying)
    departure = jnp.where(whole == 0, 0.0, bent / jnp.where(whole == 0, 1.0, whole))
    return Linearization(slope, mean_output - slope * mean_z, departure)


def merge(params: Params, layer: int, linearization: Linearization) -> Params:
    """Removes a hidden layer, its activation replaced by affine functions: a lift undone.

    Args:
        params: a network of :mod:`phenodl.models.mlp` with biases.
        layer: the hidden layer to remove; its units read layer ``layer`` and feed the next.
        linearization: the affine functions that stand in for its activation.

    Returns:
        The shallower network, with the same outputs on the training data up to the departure.

    Raises:
        ValueError: not such a network, no such hidden layer, or a layer without bias.

    Example:
        >>> from phenodl.models import mlp
        >>> params = mlp.init(jax.random.key(0), [2, 5, 5, 1])
        >>> x = jnp.eye(2)
        >>> shallower = merge(params, 1, layer_linearization(params, 1, x, mlp.tanh))
        >>> [shallower[name]["weight"].shape for name in sorted(shallower)]
        [(5, 2), (1, 5)]
    """
    require_hidden(params, layer)
    old = layers(params)
    before, after = old[layer : layer + 2]
    if not ("bias" in before and "bias" in after):
        raise ValueError(
            f"params: expected biases in layer_{layer} and layer_{layer + 1}, which are merged"
        )
    slope, intercept, _ = linearization
    merged = {
        "weight": after["weight"] @ (slope[:, None] * before["weight"]),
        "bias": after["weight"] @ (slope * before["bias"] + intercept) + after["bias"],
    }
    return network([*old[:layer], merged, *old[layer + 2 :]])


def prune(
    params: Params,
    inputs: Float[Array, "features n"],
    activation: Activation,
    *,
    tolerance: float,
) -> Params:
    """Merges hidden layers that are nearly affine on the training data, the most affine first.

    The layers that stay are measured anew after each merger. How many do depends on values, so this
    cannot be traced; :func:`layer_linearization` and :func:`merge` can.

    Args:
        params: a network of :mod:`phenodl.models.mlp` with biases.
        inputs: the training data, one column each.
        activation: of the hidden layers.
        tolerance: largest departure of a layer that is merged, see :class:`Linearization`.

    Returns:
        The shallower network.

    Raises:
        ValueError: not such a network, a layer without bias, ``tolerance`` is negative, or what
            the network computes from the data is not finite.

    Example:
        >>> from phenodl.models import mlp
        >>> params = mlp.init(jax.random.key(0), [1, 3, 3, 1])
        >>> len(prune(params, jnp.ones((1, 4)), jax.nn.identity, tolerance=1e-3))
        1
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected a number of at least 0, got {tolerance}")
    while len(layers(params)) > 1:
        fits = _all_measured(params, inputs, activation)
        departures = np.array([fit.departure for fit in fits])
        if not np.isfinite(departures).all():
            raise ValueError(
                "params: expected a network that is finite on the inputs, got departures "
                f"{departures.tolist()} of its hidden layers"
            )
        layer = int(departures.argmin())
        if departures[layer] > tolerance:
            break
        params = merge(params, layer, fits[layer])
    return params


@functools.partial(jax.jit, static_argnames="activation", compiler_options=dict(ONCE))
def _all_measured(
    params: Params, inputs: Float[Array, "features n"], activation: Activation
) -> list[Linearization]:
    hidden = range(len(params) - 1)
    return [layer_linearization(params, layer, inputs, activation) for layer in hidden]
