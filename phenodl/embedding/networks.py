"""What every embedding asks of a fully connected network: its layers, widths, units and signals.

The networks are those of :mod:`phenodl.models.mlp`. Hidden layer l is the units that ``layer_l``
computes: row i of its ``weight`` and ``bias`` goes into unit i, column i of the ``weight`` of
``layer_{l+1}`` goes out of it. A layer without a ``bias`` has none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from phenodl.models import mlp
from phenodl.models.mlp import Activation, Params

Layer = dict[str, Float[Array, "..."]]
OutputLoss = Callable[[Float[Array, "outputs n"]], Float[Array, ""]]
"""The loss as a function of the outputs of a network, one column per data point."""

_ONE_LAYER = "a weight (out, in) and at most a bias (out,)"


def layers(params: Params) -> list[Layer]:
    """The layers of a network in the order in which they act.

    Args:
        params: ``layer_0``, ``layer_1``, ..., each with a ``weight`` (out, in) and perhaps a
            ``bias`` (out,).

    Raises:
        ValueError: ``params`` are not those of a fully connected network; says where they differ.

    Example:
        >>> len(layers(mlp.init(jax.random.key(0), [1, 4, 4, 2])))
        3
    """
    require_network(params)
    return [params[f"layer_{number}"] for number in range(len(params))]


def network(layers: Sequence[Layer]) -> Params:
    """The parameters whose layers these are, the inverse of :func:`layers`.

    Example:
        >>> params = mlp.init(jax.random.key(0), [1, 4, 2])
        >>> sorted(network(layers(params)[1:]))
        ['layer_0']
    """
    return {f"layer_{number}": layer for number, layer in enumerate(layers)}


def widths(params: Params) -> tuple[int, ...]:
    """The units of every layer, from the inputs to the outputs.

    Raises:
        ValueError: as :func:`layers`.

    Example:
        >>> widths(mlp.init(jax.random.key(0), [1, 4, 3, 2]))
        (1, 4, 3, 2)
    """
    weights = [layer["weight"] for layer in layers(params)]
    return (weights[0].shape[1], *(len(weight) for weight in weights))


def incoming(layer: Mapping[str, Any]) -> Float[Any, "units fan_in_and_bias"]:
    """What goes into the units of a layer, one row each: the input weights, then the bias if any.

    Args:
        layer: its ``weight`` and ``bias``, arrays of JAX or of NumPy alike.

    Example:
        >>> incoming({"weight": np.ones((5, 3)), "bias": np.ones(5)}).shape
        (5, 4)
    """
    columns = [layer["weight"], *(layer[name][:, None] for name in layer if name == "bias")]
    return layer["weight"].__array_namespace__().concatenate(columns, axis=1)


def sizes(inward: Float[Any, "units m"], outward: Float[Any, "units n"]) -> Float[Any, " units"]:
    """How much each unit matters: the norm of what goes in times that of what goes out.

    With an activation of slope at most 1 that vanishes at 0 it bounds the unit's part of what the
    next layer sees, per norm of (x, 1). It does not change when weight is moved between a
    homogeneous unit's inputs and its outputs.

    Args:
        inward: input weights and bias, a row per unit, arrays of JAX or of NumPy alike.
        outward: output weights, likewise.

    Example:
        >>> sizes(np.array([[3.0, 4.0]]), np.array([[2.0]])).tolist()
        [10.0]
    """
    return (inward**2).sum(1) ** 0.5 * (outward**2).sum(1) ** 0.5


def unit_sizes(params: Params, layer: int) -> Float[Array, " units"]:
    """The :func:`sizes` of the units of a hidden layer: |output weights| |(input weights, bias)|.

    Raises:
        ValueError: as :func:`layers`, or the network has no such hidden layer.

    Example:
        >>> unit_sizes({"layer_0": {"weight": np.array([[3.0]]), "bias": np.array([4.0])},
        ...             "layer_1": {"weight": np.array([[2.0]])}}, 0).tolist()
        [10.0]
    """
    require_hidden(params, layer)
    return sizes(incoming(params[f"layer_{layer}"]), params[f"layer_{layer + 1}"]["weight"].T)


def require_network(params: Any) -> None:
    """Refuses what is not the parameters of a fully connected network.

    Raises:
        ValueError: names the first layer that is missing, has other entries than ``weight`` and
            ``bias``, or whose shapes do not follow from those of the layer before.

    Example:
        >>> require_network(mlp.init(jax.random.key(0), [1, 4, 1]))
    """
    if not isinstance(params, dict) or not params:
        raise ValueError(
            f"params: expected the layers of a fully connected network, layer_0, layer_1, ..., "
            f"got {type(params).__name__}"
        )
    fan_in = None
    for number in range(len(params)):
        name = f"layer_{number}"
        if name not in params:
            raise ValueError(
                f"params: expected layers layer_0 to layer_{len(params) - 1} of a fully connected "
                f"network, got {', '.join(sorted(map(str, params)))}"
            )
        fan_in = _require_layer(name, params[name], fan_in)


def require_hidden(params: Params, layer: int, unit: int | Int[Array, ""] | None = None) -> None:
    """Refuses a hidden layer, or one of its units, that a network does not have.

    Args:
        params: of the network.
        layer: number of the hidden layer, from 0.
        unit: number of the unit, from 0; a traced one cannot be checked and passes.

    Raises:
        ValueError: as :func:`layers`, or the network has no such layer or unit.

    Example:
        >>> require_hidden(mlp.init(jax.random.key(0), [1, 4, 1]), layer=0, unit=3)
    """
    hidden = widths(params)[1:-1]
    if not 0 <= layer < len(hidden):
        has = f"in [0, {len(hidden)})" if hidden else "of a network that has some"
        raise ValueError(f"layer: expected a hidden layer {has}, got {layer}")
    if unit is not None and not isinstance(unit, Tracer):
        require_index("unit", int(unit), hidden[layer])


def require_wider(params: Params, hidden: Sequence[int]) -> tuple[int, ...]:
    """Refuses widths that cannot hold a network.

    Args:
        params: of the network.
        hidden: units of each hidden layer of the target.

    Returns:
        The widths of the network's own hidden layers.

    Raises:
        ValueError: as :func:`layers`, or the target has another number of hidden layers, or one
            that is narrower.

    Example:
        >>> require_wider(mlp.init(jax.random.key(0), [1, 4, 1]), [6])
        (4,)
    """
    narrow = widths(params)[1:-1]
    if np.ndim(hidden) != 1 or len(hidden) != len(narrow):
        raise ValueError(
            f"hidden: expected the width of each of the {len(narrow)} hidden layers, as many as "
            f"in {narrow}, got {hidden}"
        )
    if any(many < few for few, many in zip(narrow, hidden, strict=True)):
        raise ValueError(
            f"hidden: expected a target at least as wide as the source, {narrow}, "
            f"got {tuple(hidden)}"
        )
    return narrow


def require_index(name: str, index: int, size: int) -> None:
    """Refuses an index that is not in [0, size).

    Raises:
        ValueError: names the argument and its range.

    Example:
        >>> require_index("head", 3, size=4)
    """
    if not 0 <= index < size:
        raise ValueError(f"{name}: expected a number in [0, {size}), got {index}")


def preactivations(
    params: Params, layer: int, inputs: Float[Array, "features n"], activation: Activation
) -> Float[Array, "units n"]:
    """What a layer computes from the data, before its activation.

    Args:
        params: of the network.
        layer: number of the layer; the last one gives the outputs.
        inputs: one column per data point.
        activation: of the hidden layers, elementwise.

    Raises:
        ValueError: as :func:`layers`, or ``inputs`` are not of the network's features, one column
            per data point.

    Example:
        >>> params = {"layer_0": {"weight": np.array([[2.0]])},
        ...           "layer_1": {"weight": np.array([[3.0]])}}
        >>> preactivations(params, 1, jax.numpy.ones((1, 2)), jax.numpy.abs).tolist()
        [[6.0, 6.0]]
    """
    _require_inputs(params, inputs)
    return mlp.apply(network(layers(params)[: layer + 1]), inputs, activation)


def layer_inputs(
    params: Params, layer: int, inputs: Float[Array, "features n"], activation: Activation
) -> Float[Array, "fan_in n"]:
    """What goes into a layer: the activations of the layer before, or the data themselves.

    Args:
        params: of the network.
        layer: number of the layer.
        inputs: one column per data point.
        activation: of the hidden layers, elementwise.

    Raises:
        ValueError: as :func:`preactivations`.

    Example:
        >>> params = {"layer_0": {"weight": np.array([[2.0]])},
        ...           "layer_1": {"weight": np.array([[3.0]])}}
        >>> layer_inputs(params, 1, jax.numpy.ones((1, 2)), jax.numpy.abs).tolist()
        [[2.0, 2.0]]
    """
    _require_inputs(params, inputs)
    return activation(preactivations(params, layer - 1, inputs, activation)) if layer else inputs


def errors(
    params: Params,
    layer: int,
    inputs: Float[Array, "features n"],
    activation: Activation,
    loss: OutputLoss,
) -> Float[Array, "units n"]:
    """The backpropagated errors: derivatives of the loss by the pre-activations of a layer.

    Args:
        params: of the network.
        layer: number of the layer; the last one gives the derivatives by the outputs.
        inputs: one column per data point.
        activation: of the hidden layers, elementwise.
        loss: as a function of the outputs.

    Raises:
        ValueError: as :func:`preactivations`.

    Example:
        >>> params = {"layer_0": {"weight": np.ones((1, 1))},
        ...           "layer_1": {"weight": np.array([[3.0]])}}
        >>> errors(params, 0, jax.numpy.ones((1, 2)), jax.numpy.square, jax.numpy.sum).tolist()
        [[6.0, 6.0]]
    """
    later = layers(params)[layer + 1 :]

    def from_here(values: Float[Array, "units n"]) -> Float[Array, ""]:
        return loss(mlp.apply(network(later), activation(values), activation) if later else values)

    return jax.grad(from_here)(preactivations(params, layer, inputs, activation))


def _require_inputs(params: Params, inputs: Float[Array, "features n"]) -> None:
    """Refuses data of another number of features, or with one row per data point."""
    features, shape = widths(params)[0], np.shape(inputs)
    if len(shape) != 2 or shape[0] != features:
        raise ValueError(
            f"inputs: expected shape ({features}, n), one column per data point, got {shape}"
        )


def _require_layer(name: str, layer: Any, fan_in: int | None) -> int:
    """Refuses a layer that does not take ``fan_in`` signals; returns how many it gives."""
    if not isinstance(layer, dict) or not {"weight"} <= set(layer) <= {"weight", "bias"}:
        entries = ", ".join(map(str, layer)) if isinstance(layer, dict) else type(layer).__name__
        raise ValueError(f"params: expected {name} to hold {_ONE_LAYER}, got {entries}")
    shapes = {entry: np.shape(value) for entry, value in layer.items()}
    weight = shapes["weight"]
    fits = len(weight) == 2 and min(weight) > 0 and shapes.get("bias", weight[:1]) == weight[:1]
    if not fits:
        raise ValueError(f"params: expected {name} to hold {_ONE_LAYER}, got shapes {shapes}")
    if fan_in is not None and weight[1] != fan_in:
        raise ValueError(
            f"params: expected the weight of {name} to take the {fan_in} units of the layer "
            f"before, got shape {weight}"
        )
    return weight[0]
