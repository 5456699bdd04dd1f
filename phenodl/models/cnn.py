"""A small convolutional network for image classification: conv, pool, conv, pool, two dense layers.

It is the network of the digits experiment of loss spikes (SPIKE, arXiv 2506.04805). A convolution
is a matrix product with image patches: inside a loop on a CPU, XLA's own convolution is several
times slower. Activations lie as (channels, height, width, images), the images last, where they fill
the vector units. The patches of the input images never change and are taken once.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from phenodl.protocol import Data, Hyper, Problem

Layer = dict[str, Float[Array, "..."]]
Params = dict[str, Layer]

LAYERS = ("conv1", "conv2", "dense1", "dense2")
"""The layers in the order in which they act, which is also that of their names."""

_SIDE = 3  # of the square kernels, in pixels
_POOL = 2  # side of the pooling windows


def problem(
    images: ArrayLike, labels: ArrayLike, *, channels: Sequence[int] = (8, 16), hidden: int = 32
) -> Problem:
    """Fit labels by the network in mean squared error, on the full batch.

    Args:
        images: (n, height, width) or (n, height, width, channels), floating.
        labels: (n, outputs), one-hot for classification.
        channels: of the two convolutions.
        hidden: units of the first dense layer.

    Returns:
        The problem; its data hold ``patches`` and ``labels``.

    Raises:
        ValueError: a side of the images is not a multiple of 4, or the numbers of images and
            labels differ.

    Example:
        >>> images, labels = jnp.ones((5, 8, 8)), jnp.eye(5, 10)
        >>> model = problem(images, labels)
        >>> params = model.init(jax.random.key(0), model.data, {})
        >>> model.loss(params, model.data).shape
        ()
    """
    patches, targets = image_patches(images), jnp.asarray(labels)
    if patches.shape[-1] != len(targets):
        raise ValueError(
            f"labels: expected one per image, {patches.shape[-1]} in all, got {len(targets)}"
        )

    def start(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del data, hyper
        return init(key, patches.shape, channels, hidden, targets.shape[1], patches.dtype)

    def loss(params: Params, batch: Data) -> Float[Array, ""]:
        return jnp.mean((apply(params, batch["patches"]) - batch["labels"]) ** 2)

    return Problem(init=start, loss=loss, data={"patches": patches, "labels": targets})


def init(
    key: Key[Array, ""],
    patches_shape: Sequence[int],
    channels: Sequence[int] = (8, 16),
    hidden: int = 32,
    outputs: int = 10,
    dtype: jnp.dtype | type = float,
) -> Params:
    """Draws weights and biases uniformly from ±1/sqrt(fan-in) of their layer.

    Args:
        key: of the draw.
        patches_shape: of what :func:`image_patches` gives, (9 * input channels, height, width, n).
        channels: of the two convolutions.
        hidden: units of the first dense layer.
        outputs: of the network.
        dtype: of the parameters.

    Returns:
        The four ``LAYERS``, each with a ``weight``, (3, 3, in, out) or (in, out), and a ``bias``,
        (out,).
    """
    first, second = channels
    taps, height, width, _ = patches_shape
    features = second * (height // _POOL**2) * (width // _POOL**2)
    shapes = (
        (_SIDE, _SIDE, taps // _SIDE**2, first),
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


def apply(params: Params, patches: Float[Array, "taps height width n"]) -> Float[Array, "n out"]:
    """The outputs of the network, before any softmax.

    Args:
        params: from :func:`init`.
        patches: of the input images, from :func:`image_patches`.

    Example:
        >>> patches = image_patches(jnp.ones((5, 8, 8)))
        >>> apply(init(jax.random.key(0), patches.shape), patches).shape
        (5, 10)
    """
    x = _average_pool(_convolve(params["conv1"], patches))
    x = _average_pool(_convolve(params["conv2"], _patches(x)))
    x = jax.nn.relu(_affine(params["dense1"], x.reshape(-1, x.shape[-1])))
    return _affine(params["dense2"], x).T


@jax.jit
def image_patches(images: ArrayLike) -> Float[Array, "taps height width n"]:
    """The 3 x 3 surroundings of every pixel, zero outside the image: the input of the network.

    Args:
        images: (n, height, width) or (n, height, width, channels).

    Returns:
        Rows in the order of the taps of a kernel, then the channels, (9 * channels, height, width,
        n). A mini-batch is a selection along the last axis.

    Raises:
        ValueError: a side is not a multiple of 4, so that it cannot be pooled twice.

    Example:
        >>> image_patches(jnp.ones((5, 8, 8)))[:, 0, 0, 0].tolist()
        [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    """
    x = jnp.asarray(images)
    x = x[..., None] if x.ndim == 3 else x
    if x.shape[1] % _POOL**2 or x.shape[2] % _POOL**2:
        raise ValueError(
            f"images: expected a height and width divisible by {_POOL**2}, got {x.shape[1:3]}"
        )
    return _patches(x.transpose(3, 1, 2, 0))


def _patches(x: Float[Array, "c height width n"]) -> Float[Array, "taps height width n"]:
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(i, j) for i in range(_SIDE) for j in range(_SIDE)]
    return jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in shifts])


def _convolve(
    layer: Layer, patches: Float[Array, "taps height width n"]
) -> Float[Array, "c height width n"]:
    out = _affine(layer, patches.reshape(len(patches), -1))
    return jax.nn.relu(out).reshape(-1, *patches.shape[1:])


def _affine(layer: Layer, x: Float[Array, "in columns"]) -> Float[Array, "out columns"]:
    weight = layer["weight"].reshape(len(x), -1)
    return jnp.matmul(weight.T, x) + layer["bias"][:, None]


def _average_pool(x: Float[Array, "c height width n"]) -> Float[Array, "c h w n"]:
    c, height, width, n = x.shape
    windows = x.reshape(c, height // _POOL, _POOL, width // _POOL, _POOL, n)
    return windows.mean((2, 4))
