"""The primitive behind every embedding in width: units of a layer, copied and shared out.

A unit is whatever a network sums over: a neuron, a channel of a convolution, an attention head. It
is the slices of some arrays that go into it (they decide what it computes) and the slices of others
that go out of it (they decide what is made of it, linearly). A unit can be copied without changing
the function if the copies share its outgoing slices (EP, arXiv 2105.14573). Where the units lie is
said once per model, by :class:`Slices`; the rest of this module is the same for all models. New
units come after the others, which keep their numbers.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from phenodl.embedding.networks import require_index
from phenodl.protocol import Params


class Slices(NamedTuple):
    """Where an array of the parameters keeps the units of a layer.

    Attributes:
        path: the keys that lead to the array through the nested dicts of the parameters.
        axis: of the array, the one along which units lie.
        sizes: into which this axis is divided, if it holds more than the units: (2, heads, size)
            for keys and values of all heads, (height, width, channels) for flattened images.
            Exactly one of them is -1: the units, however many there are.
    """

    path: tuple[str, ...]
    axis: int
    sizes: tuple[int, ...] = (-1,)


class Units(NamedTuple):
    """The units of a layer.

    Attributes:
        incoming: slices that decide what a unit computes.
        outgoing: slices in which the network is linear, given what the units compute.

    Example:
        >>> neurons = Units(
        ...     incoming=(Slices(("up", "kernel"), 1), Slices(("up", "bias"), 0)),
        ...     outgoing=(Slices(("down", "kernel"), 0),),
        ... )
        >>> count({"up": {"kernel": jnp.ones((2, 5)), "bias": jnp.ones(5)},
        ...        "down": {"kernel": jnp.ones((5, 2))}}, neurons)
        5
    """

    incoming: tuple[Slices, ...]
    outgoing: tuple[Slices, ...]


def count(params: Params, units: Units) -> int:
    """How many units the arrays hold.

    Args:
        params: nested dicts of arrays.
        units: where they lie.

    Raises:
        ValueError: an array is missing, cannot be divided as ``units`` says, or the arrays do not
            agree on the number.

    Example:
        >>> count({"kernel": jnp.ones((3, 8))}, Units((Slices(("kernel",), 1, (-1, 2)),), ()))
        4
    """
    counts = {place.path: _count(params, place) for place in (*units.incoming, *units.outgoing)}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{number} in {'/'.join(path)}" for path, number in counts.items())
        raise ValueError(f"params: expected the same number of units everywhere, got {found}")
    return next(iter(counts.values()))


def split(
    params: Params,
    units: Units,
    unit: int | Int[Array, ""],
    alpha: float | Float[Array, ""],
) -> Params:
    """Copies a unit; it keeps 1 - alpha of its outgoing slices and the copy gets alpha of them.

    Output and criticality are preserved for any real alpha (EP, one-step embedding).

    Args:
        params: nested dicts of arrays.
        units: of the layer.
        unit: number of the unit, from 0. A traced one cannot be checked: one that does not exist
            gives a copy of NaN.
        alpha: share of the copy, which becomes the last unit.

    Raises:
        ValueError: as :func:`count`, or there is no such unit, or alpha is not finite.

    Example:
        >>> layer = Units((Slices(("in",), 0),), (Slices(("out",), 0),))
        >>> split({"in": jnp.array([3.0, 5.0]), "out": jnp.array([1.0, 8.0])}, layer, 1, 0.25)
        {'in': Array([3., 5., 5.], dtype=float32), 'out': Array([1., 6., 2.], dtype=float32)}
    """
    width = count(params, units)
    if not isinstance(unit, Tracer):
        require_index("unit", int(unit), width)
    if not isinstance(alpha, Tracer) and not np.isfinite(alpha):
        raise ValueError(f"alpha: expected a finite number, got {alpha}")
    source = jnp.append(jnp.arange(width), unit)
    alpha = jnp.asarray(alpha)
    share = jnp.ones_like(alpha, shape=width + 1).at[unit].add(-alpha).at[-1].set(alpha)
    return copy(params, units, source, share)


def null(params: Params, units: Units, number: int = 1) -> Params:
    """Adds units whose incoming and outgoing slices are zero, as the last ones.

    This preserves the output, and criticality if what is computed from zeros is zero or the layer
    that it goes to has a bias, which could make up for a constant (EP-h, null embedding).

    Args:
        params: nested dicts of arrays.
        units: of the layer.
        number: how many to add.

    Raises:
        ValueError: as :func:`count`.

    Example:
        >>> layer = Units((Slices(("in",), 0),), (Slices(("out",), 0),))
        >>> null({"in": jnp.ones(2), "out": jnp.ones(2)}, layer)["in"].tolist()
        [1.0, 1.0, 0.0]
    """
    count(params, units)
    for place in (*units.incoming, *units.outgoing):
        params = along(params, place, lambda array, axis: _append_zeros(array, axis, number))
    return params


def copy(
    params: Params,
    units: Units,
    source: Int[Array, " wide"],
    share: Float[Array, " wide"],
) -> Params:
    """Makes every unit of a wide layer a copy of a unit of the narrow one, with a share of it.

    Args:
        params: nested dicts of arrays.
        units: of the layer.
        source: number of the narrow unit that each wide unit copies.
        share: of the narrow unit's outgoing slices; the function is preserved if the shares of all
            copies of a unit sum to one.

    Raises:
        ValueError: as :func:`count`.

    Example:
        >>> layer = Units((Slices(("in",), 0),), (Slices(("out",), 0),))
        >>> params = {"in": jnp.array([3.0]), "out": jnp.array([2.0])}
        >>> copy(params, layer, jnp.zeros(3, int), jnp.array([2.0, -2.0, 1.0]))["out"].tolist()
        [4.0, -4.0, 2.0]
    """
    count(params, units)
    for place in units.incoming:
        params = along(params, place, lambda array, axis: jnp.take(array, source, axis))
    for place in units.outgoing:
        params = along(params, place, lambda array, axis: _shared_out(array, axis, source, share))
    return params


def along(params: Params, place: Slices, change: Callable[[Array, int], Array]) -> Params:
    """Changes one array, seen with an axis of its own for the units.

    Args:
        params: nested dicts of arrays.
        place: where the array keeps its units.
        change: ``change(array, axis) -> array``, of the same number of axes; it may change the
            size of that one axis, along which the units lie.

    Returns:
        The parameters, the others as they were.

    Example:
        >>> heads = Slices(("kernel",), 1, (-1, 2))
        >>> along({"kernel": jnp.ones((3, 8))}, heads, jnp.flip)["kernel"].shape
        (3, 8)
    """
    array = _find(params, place.path)
    before, after = array.shape[: place.axis], array.shape[place.axis :][1:]
    axis = place.axis + place.sizes.index(-1)
    changed = change(array.reshape(*before, *_divided(params, place), *after), axis)
    return _replaced(params, place.path, changed.reshape(*before, -1, *after))


def _shared_out(
    array: Float[Array, "..."], axis: int, source: Int[Array, " wide"], share: Float[Array, " wide"]
) -> Float[Array, "..."]:
    copies = jnp.take(array, source, axis)
    return copies * jnp.expand_dims(
        share.astype(array.dtype), [other for other in range(array.ndim) if other != axis]
    )


def _append_zeros(array: Float[Array, "..."], axis: int, number: int) -> Float[Array, "..."]:
    return jnp.pad(array, [(0, number * (each == axis)) for each in range(array.ndim)])


def _count(params: Params, place: Slices) -> int:
    return _divided(params, place)[place.sizes.index(-1)]


def _divided(params: Params, place: Slices) -> tuple[int, ...]:
    """The sizes into which the axis of an array is divided, the number of units among them."""
    shape = _find(params, place.path).shape
    name = "/".join(place.path)
    if place.sizes.count(-1) != 1:
        raise ValueError(f"sizes: expected exactly one -1, the units, got {place.sizes}")
    if not 0 <= place.axis < len(shape):
        raise ValueError(f"params: expected {name} to have an axis {place.axis}, got shape {shape}")
    others = -math.prod(place.sizes)
    if others < 1 or shape[place.axis] % others:
        raise ValueError(
            f"params: expected axis {place.axis} of {name} to divide into {place.sizes}, "
            f"got {shape[place.axis]} entries"
        )
    return tuple(shape[place.axis] // others if size == -1 else size for size in place.sizes)


def _find(params: Params, path: Sequence[str]) -> Array:
    found = params
    for key in path:
        if not isinstance(found, dict) or key not in found:
            raise ValueError(f"params: expected an array at {'/'.join(path)}, found none")
        found = found[key]
    return found


def _replaced(params: Params, path: Sequence[str], array: Array) -> Params:
    if not path:
        return array
    return {**params, path[0]: _replaced(params[path[0]], path[1:], array)}
