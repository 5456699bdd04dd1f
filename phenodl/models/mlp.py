"""Fully connected networks for regression, as pure functions on a plain pytree.

Activations lie data-last, (features, n): the points fill the vector units of a CPU, where a
batch-first network of 20 units is several times slower. The layers are the top-level entries of the
parameters, each with a ``weight`` (out, in) and, unless it has none, a ``bias`` (out,).
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from phenodl.protocol import Data, Hyper, Problem

Params = dict[str, dict[str, Float[Array, "..."]]]
Activation = Callable[[Array], Array]


@jax.custom_jvp
def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The hyperbolic tangent, its derivative written 1 - y².

    The built-in rule, (1 - y) + y (1 - y), makes the second derivatives that curvature needs a
    tenth dearer; both agree to rounding.

    Example:
        >>> float(jax.grad(tanh)(0.0))
        1.0
    """
    return jnp.tanh(x)


@tanh.defjvp
def _tanh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = tanh(*primals)
    return y, tangents[0] * (1 - y * y)


def problem(
    inputs: ArrayLike,
    targets: ArrayLike,
    *,
    hidden: Sequence[int] = (20,),
    activation: Activation = tanh,
    bias: bool = True,
) -> Problem:
    """Fit targets by a network in mean squared error, on the full batch.

    Args:
        inputs: (n, features), floating.
        targets: (n, outputs), of the same dtype.
        hidden: units of each hidden layer; empty for a linear model.
        activation: of the hidden layers, elementwise.
        bias: whether the layers have biases.

    Returns:
        The problem; its data hold ``inputs`` (features, n) and ``targets`` (outputs, n).

    Raises:
        ValueError: ``inputs`` or ``targets`` is not a matrix, or their lengths differ.

    Example:
        >>> model = problem(jnp.ones((7, 3)), jnp.zeros((7, 2)), hidden=[5])
        >>> params = model.init(jax.random.key(0), model.data, {})
        >>> params["layer_0"]["weight"].shape, model.loss(params, model.data).shape
        ((5, 3), ())
    """
    data = {"inputs": jnp.asarray(inputs), "targets": jnp.asarray(targets)}
    for name, array in data.items():
        if array.ndim != 2:
            raise ValueError(f"{name}: expected shape (n, width), got {array.shape}")
    if len(data["inputs"]) != len(data["targets"]):
        raise ValueError(
            f"targets: expected one row per input, {len(data['inputs'])} in all, "
            f"got {len(data['targets'])}"
        )
    data = {name: array.T for name, array in data.items()}
    widths = (len(data["inputs"]), *hidden, len(data["targets"]))

    def start(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del hyper
        return init(key, widths, data["inputs"].dtype, bias=bias)

    def loss(params: Params, batch: Data) -> Float[Array, ""]:
        return jnp.mean((apply(params, batch["inputs"], activation) - batch["targets"]) ** 2)

    return Problem(init=start, loss=loss, data=data)


def init(
    key: Key[Array, ""],
    widths: Sequence[int],
    dtype: jnp.dtype | type = float,
    *,
    bias: bool = True,
) -> Params:
    """Draws weights and biases uniformly from ±1/sqrt(fan-in) of their layer.

    Args:
        key: of the draw.
        widths: units of every layer, from the inputs to the outputs.
        dtype: of the parameters.
        bias: whether the layers have biases. The weights of a key are the same with and without.

    Returns:
        Layers ``layer_0``, ``layer_1``, ..., each with a ``weight`` (out, in) and, unless it has
        none, a ``bias`` (out,).

    Raises:
        ValueError: fewer than two widths, or one that is less than 1.

    Example:
        >>> sorted(init(jax.random.key(0), [1, 20, 1]))
        ['layer_0', 'layer_1']
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths: expected two or more positive numbers, got {tuple(widths)}")

    def layer(key: Key[Array, ""], fan_in: int, fan_out: int) -> dict[str, Float[Array, "..."]]:
        bound = 1 / math.sqrt(fan_in)
        key_weight, key_bias = jax.random.split(key)
        weight = jax.random.uniform(key_weight, (fan_out, fan_in), dtype, -bound, bound)
        if not bias:
            return {"weight": weight}
        drawn = jax.random.uniform(key_bias, (fan_out,), dtype, -bound, bound)
        return {"weight": weight, "bias": drawn}

    keys = jax.random.split(key, len(widths) - 1)
    fans = zip(keys, widths[:-1], widths[1:], strict=True)
    return {f"layer_{number}": layer(*fan) for number, fan in enumerate(fans)}


def apply(
    params: Params, inputs: Float[Array, "features n"], activation: Activation = tanh
) -> Float[Array, "outputs n"]:
    """The outputs of the network; the last layer is linear.

    Args:
        params: from :func:`init`; each layer may have a bias or none.
        inputs: one column per data point.
        activation: of the hidden layers, elementwise.

    Example:
        >>> apply(init(jax.random.key(0), [3, 8, 8, 2]), jnp.ones((3, 5))).shape
        (2, 5)
    """
    signal = inputs
    for number in range(len(params)):
        layer = params[f"layer_{number}"]
        signal = activation(signal) if number else signal
        signal = jnp.matmul(layer["weight"], signal)
        signal = signal + layer["bias"][:, None] if "bias" in layer else signal
    return signal
