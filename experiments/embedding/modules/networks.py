"""The two tiny networks, narrow and wide, their data, and where they keep their units."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from phenodl.compiler import ONCE
from phenodl.data.images import digits, shrink
from phenodl.embedding.channels import channels
from phenodl.embedding.heads import attention_heads, feed_forward_units
from phenodl.embedding.units import Units
from phenodl.models import cnn
from phenodl.models.transformer import Sizes, Transformer
from phenodl.protocol import Params, Problem

_IMAGES = 100
_TOKENS = 3
_RTOL = 1e-13  # singular values of the Jacobian below this share of the largest are zero
_SCALE = 1.5  # of the parameters at a usual start
_DISPLACEMENT = 0.3  # standard deviation, of parameters of order one
_SIZES = Sizes(vocabulary=_TOKENS, length=3, width=3, layers=1, heads=1, head_size=2, hidden=2)


class Network(NamedTuple):
    """A network of one size, whose wide version has one unit more of every kind.

    Attributes:
        init: ``init(key) -> params`` of the narrow one.
        outputs: ``outputs(params) -> (n, outputs)`` of the narrow one on the data.
        wide_outputs: of the wide one.
        units: by kind of unit, where the parameters keep them.
    """

    init: Callable[[Key[Array, ""]], Params]
    outputs: Callable[[Params], Float[Array, "n outputs"]]
    wide_outputs: Callable[[Params], Float[Array, "n outputs"]]
    units: Mapping[str, Callable[[Params], Units]]


@functools.cache
def networks() -> dict[str, Network]:
    """Both networks by name."""
    return {"cnn": _convolutional(), "transformer": _transformer()}


def problem(network: Network) -> Problem:
    """Fit targets in mean squared error from a given start.

    An instance brings ``start``, the parameters, and ``targets`` (n, outputs).
    """
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    return Problem(
        init=lambda key, data, hyper: data["start"],
        loss=lambda params, data: squared_error(network.outputs(params), data["targets"]),
        data={"start": start, "targets": jnp.zeros(_output_shape(network))},
    )


def squared_error(
    outputs: Float[Array, "n outputs"], targets: Float[Array, "n outputs"]
) -> Float[Array, ""]:
    """The mean over data points and outputs."""
    return jnp.mean((outputs - targets) ** 2)


@functools.cache
def planted(name: str, seed: int, count: int, residual: float) -> dict[str, Any]:
    """Parameters, and targets for which they are a critical point.

    The parameters are drawn, larger than at a usual start, and all a little displaced, so that no
    bias is zero. The targets are the outputs there plus a residual that is orthogonal to
    every direction in which the parameters can move the outputs. It is not small, and so the points
    may be saddles.

    Args:
        name: of the network, whose outputs are more than its parameters.
        seed: of parameters and residuals.
        count: of instances.
        residual: root mean square of the residuals.
    """
    network, rng = networks()[name], np.random.default_rng(seed)

    @functools.partial(jax.jit, compiler_options=dict(ONCE))
    @jax.vmap
    def draw(key: Key[Array, ""], displacement: Array) -> tuple[Array, Array, Array]:
        flat, unravel = ravel_pytree(network.init(key))
        flat = _SCALE * flat + displacement

        def outputs(flat: Float[Array, " parameters"]) -> Float[Array, " all"]:
            return network.outputs(unravel(flat)).ravel()

        return unravel(flat), outputs(flat), jax.jacfwd(outputs)(flat)

    keys = jax.random.split(jax.random.key(seed), count)
    displacement = _DISPLACEMENT * rng.standard_normal((count, _parameters(network)))
    params, outputs, jacobian = jax.tree.map(np.asarray, draw(keys, displacement))
    left, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    reached = left * (values > _RTOL * values[:, :1])[:, None]
    noise = rng.standard_normal(outputs.shape)
    noise -= np.einsum("ijk,ilk,il->ij", reached, reached, noise)
    noise *= residual / np.sqrt(np.mean(noise**2, axis=1, keepdims=True))
    targets = (outputs + noise).reshape(count, *_output_shape(network))
    return {"start": params, "targets": targets}


def _parameters(network: Network) -> int:
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _output_shape(network: Network) -> tuple[int, ...]:
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.eval_shape(network.outputs, shapes).shape


def _convolutional() -> Network:
    images = cnn.arrange(shrink(digits(_IMAGES, dtype=np.float64).images, window=2))

    def outputs(params: Params) -> Float[Array, "n outputs"]:
        return cnn.apply(params, images, activation=jnp.tanh)

    return Network(
        init=lambda key: cnn.init(key, (4, 4), (2, 2), hidden=2, outputs=2),
        outputs=outputs,
        wide_outputs=outputs,
        units={
            "channel, first convolution": lambda params: channels(params, "conv1"),
            "channel, second convolution": lambda params: channels(params, "conv2"),
            "unit, dense layer": lambda params: channels(params, "dense1"),
        },
    )


def _transformer() -> Network:
    tokens = np.indices((_TOKENS,) * _SIZES.length).reshape(_SIZES.length, -1).T
    wide_sizes = _SIZES._replace(heads=_SIZES.heads + 1, hidden=_SIZES.units + 1)
    narrow, wide = (
        Transformer(sizes, "none", positions=1, dtype=jnp.float64) for sizes in (_SIZES, wide_sizes)
    )

    def outputs(model: Transformer, params: Params) -> Float[Array, "n outputs"]:
        logits = model.apply({"params": params}, tokens)
        assert isinstance(logits, jax.Array)
        return logits[:, 0]

    size = _SIZES.size_of_head
    return Network(
        init=lambda key: narrow.init(key, tokens[:1])["params"],
        outputs=lambda params: outputs(narrow, params),
        wide_outputs=lambda params: outputs(wide, params),
        units={
            "attention head": lambda params: attention_heads(params, 0, size),
            "unit, feed-forward layer": lambda params: feed_forward_units(params, 0),
        },
    )
