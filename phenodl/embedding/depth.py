"""Lifts in depth: a network as a point in the landscape of deeper ones.

A lift puts a hidden layer between two others and keeps the network's outputs. Where the activation
is affine on all that the training data send through the new layer, critical points stay critical
(Bai, Luo, Xu, Zhang, arXiv 2205.13283): near the lifted parameters the loss is that of the
shallower network after the map (A, b1, B, c) -> (B diag(λ) A, B (λ b1 + μ) + c), whose Jacobian has
full rank. So the Hessian gains P' - P zero eigenvalues, and no negative or positive one.
"""

import math

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from phenodl.embedding.affine import AffineInterval, require_affine, steepest_interval
from phenodl.embedding.networks import Layer, layer_inputs, layers, network, require_index
from phenodl.models.mlp import Activation, Params

_FILLED = (0.25, 0.75)  # share of a finite interval that the widest unit takes
_SLACK = (0.1, 0.9)  # where in what is left the others lie
_MARGIN = (0.1, 1.0)  # from the one end of an infinite interval, in units of the widest spread


def lift(
    params: Params,
    layer: int,
    inputs: Float[Array, "features n"],
    activation: Activation,
    *,
    key: Key[Array, ""],
    interval: AffineInterval | None = None,
    width: int | None = None,
) -> Params:
    """Inserts a hidden layer that is exactly affine on the training data.

    ``layer``, with weight W and bias b, becomes two: (A, b1) with ``width`` units whose
    pre-activations on ``inputs`` lie within the interval, and (B, c), with B diag(λ) A = W and
    B (λ b1 + μ) + c = b (EP-d, arXiv 2205.13283). What the conditions leave free is drawn: a random
    orthonormal frame in A or B, its complement in the other, the places within the interval. Two
    layers more are a lift of a lift.

    Args:
        params: a network of :mod:`phenodl.models.mlp` with biases.
        layer: the one that is replaced, from 0; later ones move up by one.
        inputs: the training data, one column each.
        activation: of all hidden layers, the new one included.
        key: of the draw.
        interval: where the activation is affine; by default the known one of largest slope.
        width: units of the new layer, at least the smaller side of W; by default its larger side.

    Returns:
        The parameters of the deeper network.

    Raises:
        ValueError: not such a network, no such layer, a layer without bias; no data, or not of the
            network's features; the activation has no affine interval, or not that one; ``width``
            is too small.

    Example:
        >>> from phenodl.models import mlp
        >>> params = mlp.init(jax.random.key(0), [2, 3, 1])
        >>> x = jnp.array([[0.0, 1.0, -1.0], [2.0, 0.5, 0.3]])
        >>> deeper = lift(params, 1, x, jax.nn.elu, key=jax.random.key(1))
        >>> [deeper[name]["weight"].shape for name in sorted(deeper)]
        [(3, 2), (3, 3), (1, 3)]
        >>> change = mlp.apply(deeper, x, jax.nn.elu) - mlp.apply(params, x, jax.nn.elu)
        >>> bool(jnp.abs(change).max() < 1e-5)
        True
    """
    weight, bias = _require_layer(params, layer)
    if interval is None:
        interval = steepest_interval(activation)
    require_affine(activation, interval)
    key_frame, key_place = jax.random.split(key)
    first, second = _factor(key_frame, weight, width)
    signals = layer_inputs(params, layer, inputs, activation)
    if not signals.shape[1]:
        raise ValueError(f"inputs: expected at least one data point, got shape {inputs.shape}")
    image = first @ signals
    scale, shift = _place(key_place, image, interval)
    second = second / (interval.slope * scale)
    affine_shift = interval.slope * shift + interval.intercept
    return _replace(
        params,
        layer,
        {"weight": scale * first, "bias": shift},
        {"weight": second, "bias": bias - second @ affine_shift},
    )


def approximate_lift(
    params: Params,
    layer: int,
    activation: Activation,
    eps: float | Float[Array, ""],
    *,
    key: Key[Array, ""],
    center: float = 0.0,
    width: int | None = None,
) -> Params:
    """Inserts a hidden layer that is nearly affine: its pre-activations stay within ε of a point.

    With u = Q h + s for orthonormal Q and random s the new layer computes σ(center + ε u), and the
    next one reads (σ - σ(center)) / (ε σ'(center)). At a center where σ'' = 0 (an inflection, as 0
    is for tanh) the outputs are off by O(ε²) and the gradient at a critical point is O(ε). Anywhere
    else the orders are one less: the outputs are off by O(ε), and the gradient does not vanish.

    Args:
        params: a network of :mod:`phenodl.models.mlp` with biases.
        layer: the one that is replaced, from 0.
        activation: of all hidden layers, differentiable at ``center``.
        eps: in units of what the layer reads, h; positive. May be traced.
        key: of the draw.
        center: an inflection point of the activation.
        width: units of the new layer, at least the smaller side of the layer's weight; by default
            its larger side.

    Returns:
        The parameters of the deeper network.

    Raises:
        ValueError: not such a network, no such layer, a layer without bias; ``width`` is too small;
            ``eps`` is not positive and finite, or the activation is flat at ``center`` (neither is
            checked where it is traced).

    Example:
        >>> from phenodl.models import mlp
        >>> params, x = mlp.init(jax.random.key(0), [1, 2, 1]), jnp.ones((1, 1))
        >>> deeper = approximate_lift(params, 0, mlp.tanh, 0.01, key=jax.random.key(1))
        >>> bool(jnp.abs(mlp.apply(deeper, x) - mlp.apply(params, x)).max() < 1e-3)
        True
    """
    weight, bias = _require_layer(params, layer)
    if not isinstance(eps, Tracer) and not 0 < eps < math.inf:
        raise ValueError(f"eps: expected a positive finite number, got {eps}")
    dtype = weight.dtype
    at = jnp.asarray(center, dtype)
    value, slope = jax.jvp(activation, (at,), (jnp.ones_like(at),))
    if not isinstance(slope, Tracer) and slope == 0:
        raise ValueError(f"center: expected where the activation is not flat, got {center}")
    key_frame, key_shift = jax.random.split(key)
    first, second = _factor(key_frame, weight, width)
    eps = jnp.asarray(eps, dtype)
    shift = eps * jax.random.normal(key_shift, first.shape[:1], dtype)
    second = second / (eps * slope)
    return _replace(
        params,
        layer,
        {"weight": eps * first, "bias": center + shift},
        {"weight": second, "bias": bias - second @ (slope * shift + value)},
    )


def root_mean_square(array: Float[Array, "..."]) -> Float[Array, ""]:
    """Of all entries together.

    Example:
        >>> float(root_mean_square(jnp.array([1.0, -7.0])))
        5.0
    """
    return jnp.sqrt((array * array).mean())


def _factor(
    key: Key[Array, ""], weight: Float[Array, "out in"], width: int | None
) -> tuple[Float[Array, "width in"], Float[Array, "out width"]]:
    """Two factors whose product is the weight, one of them holding an orthonormal frame.

    What the other has in the frame's complement is arbitrary: random, of the weight's size. The
    frame is as wide as one side of the weight, so that the product is a submersion at the factors.
    """
    fan_out, fan_in = weight.shape
    width = max(weight.shape) if width is None else width
    if width < min(weight.shape):
        raise ValueError(
            f"width: expected at least {min(weight.shape)}, the smaller side of a weight of shape "
            f"{weight.shape}, got {width}"
        )
    side, other = (fan_in, fan_out) if width >= fan_in else (fan_out, fan_in)
    normal = jax.random.normal(key, (width, side + other), weight.dtype)
    frame = jnp.linalg.qr(normal[:, :side])[0]
    free = root_mean_square(weight) * normal[:, side:]
    if width >= fan_in:
        return frame, (weight - free.T @ frame) @ frame.T + free.T
    return frame @ (weight - frame.T @ free) + free, frame.T


def _place(
    key: Key[Array, ""], image: Float[Array, "width n"], interval: AffineInterval
) -> tuple[Float[Array, ""], Float[Array, " width"]]:
    """A scale and a shift that bring the image of the data into the interval, at random there."""
    low, high = interval.low, interval.high
    one = jnp.ones((), image.dtype)
    least, most = image.min(1), image.max(1)
    widest = (most - least).max()
    widest = jnp.where(widest > 0, widest, one)
    uniforms = jax.random.uniform(key, (1 + len(image),), image.dtype)
    uniform, uniforms = uniforms[0], uniforms[1:]
    margins = widest * _between(_MARGIN, uniforms)
    if math.isinf(low) and math.isinf(high):
        return one, margins
    if math.isinf(high):
        return one, low - least + margins
    if math.isinf(low):
        return one, high - most - margins
    scale = jnp.minimum(one, _between(_FILLED, uniform) * (high - low) / widest)
    slack = high - low - scale * (most - least)
    return scale, low - scale * least + slack * _between(_SLACK, uniforms)


def _between(bounds: tuple[float, float], uniform: Float[Array, "*shape"]) -> Array:
    """What is uniform on [0, 1), brought between two bounds."""
    low, high = bounds
    return low + (high - low) * uniform


def _require_layer(
    params: Params, layer: int
) -> tuple[Float[Array, "out in"], Float[Array, " out"]]:
    """The weight and bias of a layer that exists and has both."""
    all_layers = layers(params)
    require_index("layer", layer, len(all_layers))
    arrays = all_layers[layer]
    if "bias" not in arrays:
        raise ValueError(f"params: expected a bias in layer_{layer}, which a lift needs")
    return arrays["weight"], arrays["bias"]


def _replace(params: Params, layer: int, first: Layer, second: Layer) -> Params:
    """The network with one layer replaced by two."""
    old = layers(params)
    return network([*old[:layer], first, second, *old[layer + 1 :]])
