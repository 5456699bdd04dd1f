"""Random embeddings of narrow critical points, of every kind and into every hidden layer."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, UInt32

from experiments.embedding.width.chunks import in_chunks
from experiments.embedding.width.families import Family
from phenodl.compiler import ONCE
from phenodl.embedding import degeneracy, units, width
from phenodl.embedding.composition import draw_compatible, embed
from phenodl.embedding.fibres import compatible
from phenodl.embedding.networks import OutputLoss, widths
from phenodl.models import mlp
from phenodl.models.mlp import Params

KINDS = ("split", "null", "compatible", "composed")
"""Of embeddings; all preserve output and criticality."""

CONTROL = "control"
"""The kind that preserves the output alone: a unit with zero output weights that computes."""

_CHUNK = 16
_SPLITS = 256  # in a chunk of splits along alpha
_BEND = 4.0  # standard deviation of input weights of the control, so that its units bend


class Embeddings(NamedTuple):
    """Wide networks of one kind, one row each, brought to one architecture by idle units.

    Attributes:
        point: of the family, that is embedded.
        params: leading axis over the rows.
        used: one for the parameters of the wide network, zero for those of idle units; raveled.
        zeros: predicted number of new zero eigenvalues, at a point that has none; -1 if none is
            predicted.
        transverse: the Hessian across a split, or None for another kind.
    """

    point: Int[np.ndarray, " rows"]
    params: Params
    used: Bool[np.ndarray, "rows parameters"]
    zeros: Int[np.ndarray, " rows"]
    transverse: Float[np.ndarray, "rows new new"] | None


def embeddings(
    family: Family, draws: int, random: np.random.Generator
) -> dict[tuple[str, int], Embeddings]:
    """Random embeddings of all points of a family.

    Args:
        family: of critical points.
        draws: of every kind, and into every layer, for each point.
        random: generator of the draws.

    Returns:
        By kind and hidden layer; kinds that change all layers at once have the layer -1.
    """
    point = np.repeat(np.arange(len(family)), draws)
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[point], family.params)
    free = _free(family, len(point), random)
    draw = functools.partial(_draw, wide=family.wide, inputs=family.inputs)
    drawn = in_chunks(draw, _CHUNK, params, family.targets[point], free)
    return {name: Embeddings(point, *each) for name, each in drawn.items()}


def idle(params: Params, wide: tuple[int, ...]) -> tuple[Params, Bool[np.ndarray, "rows used"]]:
    """Networks brought to a wider architecture by idle units alone.

    Args:
        params: leading axis over the rows.
        wide: units of the hidden layers.

    Returns:
        Their parameters, and where those of the narrow networks are among them, raveled.
    """
    filled, used = jax.jit(
        jax.vmap(lambda row: _filled_up(row, wide)), compiler_options=dict(ONCE)
    )(params)
    return filled, np.asarray(used)


def splits(
    family: Family,
    point: Int[np.ndarray, " rows"],
    unit: Int[np.ndarray, " rows"],
    alpha: Float[np.ndarray, " rows"],
) -> tuple[Params, Bool[np.ndarray, "rows used"], Float[np.ndarray, "rows new new"]]:
    """Splits of the first hidden layer.

    Args:
        family: of critical points.
        point: of the family.
        unit: that is split.
        alpha: of the split.

    Returns:
        The networks, their parameters in use, and the Hessians across the splits.
    """
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[point], family.params)
    split = functools.partial(_split, wide=family.wide, inputs=family.inputs)
    return in_chunks(split, _SPLITS, params, family.targets[point], unit, alpha)


def equal_splits(
    params: Params, number: int, wide: tuple[int, ...]
) -> tuple[Params, Bool[np.ndarray, "rows used"]]:
    """Equal splits of the first units of the first hidden layer, one after the other.

    Args:
        params: leading axis over the rows.
        number: of units that are split.
        wide: units of the hidden layers.

    Returns:
        The networks, and their parameters in use.
    """

    def split(row: Params) -> tuple[Params, Array]:
        for unit in range(number):
            row = width.split(row, 0, unit, 0.5)
        return _filled_up(row, wide)

    return jax.jit(jax.vmap(split), compiler_options=dict(ONCE))(params)


@functools.partial(jax.jit, static_argnames="wide", compiler_options=dict(ONCE))
def _split(
    params: Params,
    targets: Float[Array, "rows outputs n"],
    unit: Int[Array, " rows"],
    alpha: Float[Array, " rows"],
    *,
    wide: tuple[int, ...],
    inputs: Float[Array, "features n"],
) -> tuple[Params, Bool[Array, "rows used"], Float[Array, "rows new new"]]:
    def one(params: Params, targets: Array, unit: Array, alpha: Array) -> tuple:
        across = degeneracy.split_hessian(params, 0, unit, alpha, inputs, mlp.tanh, _loss(targets))
        return *_filled_up(width.split(params, 0, unit, alpha), wide), across

    return jax.vmap(one)(params, targets, unit, alpha)


class _Free(NamedTuple):
    """What is drawn for one embedding of every kind, per hidden layer where it is a tuple."""

    unit: tuple[Int[Any, " rows"], ...]
    alpha: tuple[Float[Any, " rows"], ...]
    bias: tuple[Float[Any, " rows"], ...]
    weight: tuple[Float[Any, "rows fan_in"], ...]
    compatible: UInt32[Any, "rows 2"]
    composed: UInt32[Any, "rows 2"]


def _free(family: Family, rows: int, random: np.random.Generator) -> _Free:
    """NumPy's numbers, for few of which a generator would have to be compiled."""
    fan_in = (len(family.inputs), *family.hidden[:-1])
    return _Free(
        unit=tuple(random.integers(0, units, rows) for units in family.hidden),
        alpha=tuple(random.uniform(-1, 2, rows) for _ in family.hidden),
        bias=tuple(random.standard_normal(rows) for _ in family.hidden),
        weight=tuple(_BEND * random.standard_normal((rows, number)) for number in fan_in),
        compatible=random.integers(0, 2**32, (rows, 2), np.uint32),
        composed=random.integers(0, 2**32, (rows, 2), np.uint32),
    )


@functools.partial(jax.jit, static_argnames="wide", compiler_options=dict(ONCE))
def _draw(
    params: Params,
    targets: Float[Array, "rows outputs n"],
    free: _Free,
    *,
    wide: tuple[int, ...],
    inputs: Float[Array, "features n"],
) -> dict[tuple[str, int], tuple]:
    """One embedding of every kind and into every layer, for each row."""
    return jax.vmap(lambda params, targets, free: _draw_one(params, targets, free, wide, inputs))(
        params, targets, free
    )


def _draw_one(
    params: Params,
    targets: Float[Array, "outputs n"],
    free: _Free,
    wide: tuple[int, ...],
    inputs: Float[Array, "features n"],
) -> dict[tuple[str, int], tuple]:
    network = (inputs, mlp.tanh, _loss(targets))
    found = {}
    for layer, (unit, alpha, bias, weight) in enumerate(zip(*free[:4], strict=True)):
        found |= {
            ("split", layer): (
                *_filled_up(width.split(params, layer, unit, alpha), wide),
                degeneracy.split_zeros(params, layer, alpha),
                degeneracy.split_hessian(params, layer, unit, alpha, *network),
            ),
            ("null", layer): (
                *_filled_up(width.null(params, layer, bias), wide),
                degeneracy.null_zeros(params, layer, bias, *network),
                None,
            ),
            (CONTROL, layer): (
                *_filled_up(width.silent(params, layer, weight, bias), wide),
                jnp.array(-1),
                None,
            ),
        }
    key_compatible, key_composed = map(jax.random.wrap_key_data, (free.compatible, free.composed))
    choice = draw_compatible(params, wide, key_compatible)
    zeros = jnp.array(degeneracy.compatible_zeros(params, wide))
    copied, composed = compatible(params, choice), embed(params, wide, key_composed)
    found["compatible", -1] = (*_filled_up(copied, wide), zeros, None)
    found["composed", -1] = (*_filled_up(composed, wide), jnp.array(-1), None)
    return found


def _loss(targets: Float[Array, "outputs n"]) -> OutputLoss:
    return lambda outputs: jnp.mean((outputs - targets) ** 2)


def _filled_up(params: Params, wide: tuple[int, ...]) -> tuple[Params, Bool[Array, " parameters"]]:
    """A network with units that have no weights, and where its own parameters are in it."""
    marked = jax.tree.map(jnp.ones_like, params)
    for layer, (few, many) in enumerate(zip(widths(params)[1:-1], wide, strict=True)):
        place = width.neurons(params, layer)
        params, marked = (units.null(each, place, many - few) for each in (params, marked))
    return params, ravel_pytree(marked)[0] > 0
