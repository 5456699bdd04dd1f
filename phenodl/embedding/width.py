"""Embeddings in width: a network as a wider one with the same function, and still critical.

Every critical point of a narrow network is one of each wider network of the same depth (EP, arXiv
2105.14573; EP-h, arXiv 2111.15527). :func:`split` copies a unit, :func:`null` adds one that does
nothing; :mod:`phenodl.embedding.fibres` has the general form and
:mod:`phenodl.embedding.composition` draws it at random. Hidden layers and units are counted from 0;
new units come after the others, which keep their numbers.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from phenodl.embedding import units
from phenodl.embedding.networks import Params, require_hidden
from phenodl.embedding.units import Slices, Units


def neurons(params: Params, layer: int) -> Units:
    """Where a network keeps the units of a hidden layer.

    Args:
        params: of the network.
        layer: number of the hidden layer.

    Raises:
        ValueError: these are not the parameters of a fully connected network, or it has no such
            hidden layer.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((4, 1)), "bias": jnp.ones(4)},
        ...           "layer_1": {"weight": jnp.ones((1, 4)), "bias": jnp.ones(1)}}
        >>> units.count(params, neurons(params, 0))
        4
    """
    require_hidden(params, layer)
    name, following = f"layer_{layer}", f"layer_{layer + 1}"
    incoming = tuple(Slices((name, entry), 0) for entry in sorted(params[name]))
    return Units(incoming, (Slices((following, "weight"), 1),))


def split(
    params: Params, layer: int, unit: int | Int[Array, ""], alpha: float | Float[Array, ""]
) -> Params:
    """Copies a unit, which keeps 1 - alpha of its output weights and gives alpha to the copy.

    Args:
        params: of the network.
        layer: number of the hidden layer.
        unit: number of the unit; if traced, see :func:`phenodl.embedding.units.split`.
        alpha: any real number.

    Returns:
        A network with one unit more in that layer, the last one.

    Raises:
        ValueError: as :func:`neurons`, or there is no such unit, or alpha is not finite.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((4, 1)), "bias": jnp.ones(4)},
        ...           "layer_1": {"weight": jnp.ones((1, 4)), "bias": jnp.ones(1)}}
        >>> split(params, layer=0, unit=2, alpha=0.25)["layer_1"]["weight"].tolist()
        [[1.0, 1.0, 0.75, 1.0, 0.25]]
    """
    require_hidden(params, layer, unit)
    return units.split(params, neurons(params, layer), unit, alpha)


def null(params: Params, layer: int, bias: float | Float[Array, ""] = 0.0) -> Params:
    """Adds a unit with zero input weights and zero output weights.

    A critical point stays one for any bias if the next layer has biases, whose gradient then says
    that the errors sum to zero; if it has none, for a bias at which the activation is zero.

    Args:
        params: of the network.
        layer: number of the hidden layer.
        bias: of the unit, if its layer has biases.

    Returns:
        A network with one unit more in that layer, the last one.

    Raises:
        ValueError: as :func:`neurons`.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((4, 1)), "bias": jnp.ones(4)},
        ...           "layer_1": {"weight": jnp.ones((1, 4)), "bias": jnp.ones(1)}}
        >>> null(params, layer=0, bias=0.5)["layer_0"]["bias"].tolist()
        [1.0, 1.0, 1.0, 1.0, 0.5]
    """
    widened = units.null(params, neurons(params, layer))
    return with_units(widened, layer, "bias", -1, bias)


def silent(
    params: Params,
    layer: int,
    weight: Float[Array, " fan_in"],
    bias: float | Float[Array, ""] = 0.0,
) -> Params:
    """Adds a unit with zero output weights that computes something: the negative control.

    The output stays, but a critical point does not stay one in general: the gradient by the new
    output weights is the correlation of what the unit computes with the errors.

    Args:
        params: of the network.
        layer: number of the hidden layer.
        weight: input weights of the unit.
        bias: of the unit, if its layer has biases.

    Returns:
        A network with one unit more in that layer, the last one.

    Raises:
        ValueError: as :func:`neurons`.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((4, 1)), "bias": jnp.ones(4)},
        ...           "layer_1": {"weight": jnp.ones((1, 4)), "bias": jnp.ones(1)}}
        >>> silent(params, layer=0, weight=jnp.ones(1))["layer_1"]["weight"].tolist()
        [[1.0, 1.0, 1.0, 1.0, 0.0]]
    """
    return with_units(null(params, layer, bias), layer, "weight", -1, weight)


def with_units(
    params: Params, layer: int, entry: str, unit: int | slice, value: float | Float[Array, "..."]
) -> Params:
    """Sets an entry of some units of a layer, if the layer has that entry.

    Args:
        params: of the network.
        layer: number of the layer.
        entry: ``"weight"`` or ``"bias"``.
        unit: which units.
        value: of the entry, of each of them.

    Example:
        >>> with_units({"layer_0": {"weight": jnp.ones((2, 1))}}, 0, "weight", 1, 5.0)
        {'layer_0': {'weight': Array([[1.],
               [5.]], dtype=float32)}}
    """
    name = f"layer_{layer}"
    if entry not in params[name]:
        return params
    array = jnp.asarray(params[name][entry])
    return {**params, name: {**params[name], entry: array.at[unit].set(value)}}
