"""A small convolutional network for image classification: conv, pool, conv, pool, two dense layers.

It is the network of the image experiments of loss spikes (SPIKE, arXiv 2506.04805). Activations lie
as (channels, height, width, images), the images last, where they fill the vector units. A
convolution is XLA's own, or a matrix product with image patches: inside a loop on a CPU, XLA's is
several times slower. The patches of the input images never change and are taken once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from phenodl.protocol import Data, Hyper, Problem, full_batch

Layer = dict[str, Float[Array, "..."]]
Params = dict[str, Layer]
Convolution = Literal["patches", "xla"]
Activation = Callable[[Array], Array]
Activations = Float[Array, "rows height width n"]

LAYERS = ("conv1", "conv2", "dense1", "dense2")
"""The layers in the order in which they act, which is also that of their names."""

_SIDE = 3  # of the square kernels, in pixels
_POOL = 2  # side of the pooling windows


def fastest_convolution() -> Convolution:
    """``"patches"`` if JAX runs on CPUs, ``"xla"``, with its tuned kernels, on accelerators.

    Example:
        >>> fastest_convolution() if jax.default_backend() == "cpu" else "patches"
        'patches'
    """
    return "patches" if jax.default_backend() == "cpu" else "xla"


def problem(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    channels: Sequence[int] = (8, 16),
    hidden: int = 32,
    batch_size: int | None = None,
    convolution: Convolution | None = None,
    activation: Activation = jax.nn.relu,
) -> Problem:
    """Fit labels by the network in mean squared error.

    In the data and in a batch the images lie along the last axis, so
    :func:`phenodl.microbatch.accumulate`, which divides the first axis, does not fit this loss.

    Args:
        images: (n, height, width) or (n, height, width, channels), floating.
        labels: (n, outputs), one-hot for classification.
        channels: of the two convolutions.
        hidden: units of the first dense layer.
        batch_size: images of a mini-batch, drawn without replacement at every step; by default
            every step sees all of them.
        convolution: how to convolve; by default as :func:`fastest_convolution` says.
        activation: of all layers but the last, elementwise.

    Returns:
        The problem; its data hold ``images``, as :func:`arrange` gives them, and ``labels``.

    Raises:
        ValueError: the images are not floating, there are none, or a side is not a multiple of 4;
            the labels are class numbers, or not one row per image; there are not two positive
            ``channels``; or a batch is larger than the data.

    Example:
        >>> images, labels = jnp.ones((5, 8, 8)), jnp.eye(5, 10)
        >>> model = problem(images, labels, batch_size=2)
        >>> params = model.init(jax.random.key(0), model.data, {})
        >>> model.loss(params, model.batch(model.data, jax.random.key(1), 0)).shape
        ()
    """
    convolution = convolution or fastest_convolution()
    shape = np.shape(images)[1:]
    data = {"images": arrange(images, convolution), "labels": jnp.asarray(labels)}
    n = data["images"].shape[-1]
    if data["labels"].ndim != 2 or len(data["labels"]) != n:
        raise ValueError(
            f"labels: expected a row per image, ({n}, outputs), one-hot for classes; got shape "
            f"{data['labels'].shape}"
        )
    outputs = data["labels"].shape[1]
    if len(channels) != 2 or min(*channels, hidden) < 1:
        raise ValueError(
            f"channels and hidden: expected two positive numbers and one, got {channels}, {hidden}"
        )
    size = n if batch_size is None else batch_size
    if not 1 <= size <= n:
        raise ValueError(f"batch_size must be in [1, {n}], the images there are, got {size}")

    def start(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del hyper
        return init(key, shape, channels, hidden, outputs, data["images"].dtype)

    def loss(params: Params, batch: Data) -> Float[Array, ""]:
        outputs = apply(params, batch["images"], convolution, activation)
        return jnp.mean((outputs - batch["labels"]) ** 2)

    def mini_batch(data: Data, key: Key[Array, ""], step: Int[Array, ""]) -> Data:
        del step
        chosen = jax.random.choice(key, n, (size,), replace=False)
        return {"images": data["images"][..., chosen], "labels": data["labels"][chosen]}

    return Problem(start, loss, full_batch if batch_size is None else mini_batch, data)


def init(
    key: Key[Array, ""],
    image_shape: Sequence[int],
    channels: Sequence[int] = (8, 16),
    hidden: int = 32,
    outputs: int = 10,
    dtype: jnp.dtype | type = float,
) -> Params:
    """Draws weights and biases uniformly from ±1/sqrt(fan-in) of their layer.

    Args:
        key: of the draw.
        image_shape: (height, width) or (height, width, channels).
        channels: of the two convolutions.
        hidden: units of the first dense layer.
        outputs: of the network.
        dtype: of the parameters.

    Returns:
        The four ``LAYERS``, each with a ``weight``, (3, 3, in, out) or (in, out), and a ``bias``,
        (out,).
    """
    first, second = channels
    height, width, colors = (*image_shape, 1)[:3]
    features = second * (height // _POOL**2) * (width // _POOL**2)
    shapes = (
        (_SIDE, _SIDE, colors, first),
        (_SIDE, _SIDE, first, second),
        (features, hidden),
        (hidden, outputs),
    )

    sizes = [math.prod(shape) + shape[-1] for shape in shapes]
    draws = jax.random.uniform(key, (sum(sizes),), dtype, -1, 1)  # one draw: each costs a compile

    def layer(draws: Float[Array, " entries"], shape: tuple[int, ...]) -> Layer:
        entries = draws / math.sqrt(math.prod(shape[:-1]))
        return {"weight": entries[: -shape[-1]].reshape(shape), "bias": entries[-shape[-1] :]}

    parts = jnp.split(draws, np.cumsum(sizes)[:-1].tolist())
    return {
        name: layer(part, shape) for name, part, shape in zip(LAYERS, parts, shapes, strict=True)
    }


def apply(
    params: Params,
    images: Activations,
    convolution: Convolution = "patches",
    activation: Activation = jax.nn.relu,
) -> Float[Array, "n out"]:
    """The outputs of the network, before any softmax.

    Args:
        params: from :func:`init`.
        images: from :func:`arrange`, for the same convolution.
        convolution: how to convolve; the outputs differ by rounding.
        activation: of all layers but the last, elementwise.

    Example:
        >>> images = arrange(jnp.ones((5, 8, 8)))
        >>> apply(init(jax.random.key(0), (8, 8)), images).shape
        (5, 10)
    """
    gather, convolve = _ways(convolution)
    x = _average_pool(activation(convolve(params["conv1"], images)))
    x = _average_pool(activation(convolve(params["conv2"], gather(x))))
    x = activation(_affine(params["dense1"], x.reshape(-1, x.shape[-1])))
    return _affine(params["dense2"], x).T


def arrange(images: ArrayLike, convolution: Convolution = "patches") -> Activations:
    """Lays images out as the network takes them. A mini-batch is a selection along the last axis.

    Args:
        images: (n, height, width) or (n, height, width, channels), floating.
        convolution: ``"xla"`` gives (channels, height, width, n); ``"patches"`` the 3 x 3
            surroundings of every pixel, zero outside the image, in the order of the taps of a
            kernel, then the channels: (9 * channels, height, width, n).

    Raises:
        ValueError: the images are not floating, have too few or too many axes or an empty one, or
            a side is not a multiple of 4, so that it cannot be pooled twice.

    Example:
        >>> arrange(jnp.ones((5, 8, 8)))[:, 0, 0, 0].tolist()
        [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    """
    images = jnp.asarray(images)
    shape = images.shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            "images: expected (n, height, width) or (n, height, width, channels), no axis empty, "
            f"got {shape}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images: expected floating numbers, standardised, got {images.dtype}")
    if shape[1] % _POOL**2 or shape[2] % _POOL**2:
        raise ValueError(
            f"images: expected a height and width divisible by {_POOL**2}, got {shape[1:3]}"
        )
    gather, _ = _ways(convolution)
    return jax.jit(lambda x: gather(x.reshape(*x.shape[:3], -1).transpose(3, 1, 2, 0)))(images)


class _Ways(NamedTuple):
    """How to convolve: what is done to the activations, and to these together with the weights."""

    gather: Callable[[Activations], Activations]
    convolve: Callable[[Layer, Activations], Activations]


def _ways(convolution: Convolution) -> _Ways:
    ways = {
        "patches": _Ways(_patches, _multiply_patches),
        "xla": _Ways(lambda x: x, _convolve),
    }
    if convolution not in ways:
        raise ValueError(f"convolution must be one of {', '.join(ways)}, got {convolution!r}")
    return ways[convolution]


def _patches(x: Activations) -> Activations:
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(i, j) for i in range(_SIDE) for j in range(_SIDE)]
    return jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in shifts])


def _multiply_patches(layer: Layer, patches: Activations) -> Activations:
    out = _affine(layer, patches.reshape(len(patches), -1))
    return out.reshape(-1, *patches.shape[1:])


def _convolve(layer: Layer, x: Activations) -> Activations:
    out = jax.lax.conv_general_dilated(
        x, layer["weight"], (1, 1), "SAME", dimension_numbers=("CHWN", "HWIO", "CHWN")
    )
    return out + layer["bias"][:, None, None, None]


def _affine(layer: Layer, x: Float[Array, "in columns"]) -> Float[Array, "out columns"]:
    weight = layer["weight"].reshape(len(x), -1)
    return jnp.matmul(weight.T, x) + layer["bias"][:, None]


def _average_pool(x: Activations) -> Float[Array, "c h w n"]:
    c, height, width, n = x.shape
    windows = x.reshape(c, height // _POOL, _POOL, width // _POOL, _POOL, n)
    return windows.mean((2, 4))
