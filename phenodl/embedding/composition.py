"""Embeddings drawn at random, from any narrow architecture to any wide one of the same depth."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from phenodl.embedding import units
from phenodl.embedding.fibres import Choice, compatible
from phenodl.embedding.networks import Params, require_wider, widths
from phenodl.embedding.width import neurons, with_units


def draw_compatible(
    params: Params, hidden: Sequence[int], key: Key[Array, ""], spread: float = 1.0
) -> Choice:
    """Draws a compatible embedding at random.

    Args:
        params: of the narrow network.
        hidden: units of each hidden layer of the wide one.
        key: of the draw.
        spread: what is free is uniform in ±spread; at 0 the copies of a unit have equal shares.

    Returns:
        A choice for :func:`phenodl.embedding.fibres.compatible`. The first units copy the narrow
        ones in their order, those that come after any of them, all equally likely.

    Raises:
        ValueError: these are not the parameters of a fully connected network, or ``hidden`` is
            narrower than it or of another depth.

    Example:
        >>> from phenodl.models import mlp
        >>> params = mlp.init(jax.random.key(0), [1, 2, 3, 1])
        >>> draw = jax.jit(lambda key: draw_compatible(params, [4, 4], key))
        >>> [source.shape for source in draw(jax.random.key(1)).sources]
        [(4,), (4,)]
    """
    narrow = require_wider(params, hidden)
    noise = _draw_noise(params, hidden, key)
    return _choice(noise, narrow, spread)


def embed(
    params: Params, hidden: Sequence[int], key: Key[Array, ""], spread: float = 1.0
) -> Params:
    """Embeds a network into a wider one of the same depth, at random.

    A random number of null units is added to each layer, with random biases where these are free;
    a random compatible embedding of the result fills the layer up. Any sequence of splits, null
    and compatible embeddings is one of this form, up to the order of the units.

    Args:
        params: of the narrow network. If a layer after the first has no biases, the activation must
            be zero at zero, as for :func:`phenodl.embedding.width.null`.
        hidden: units of each hidden layer of the wide one.
        key: of the draw.
        spread: what is free is uniform in ±spread.

    Returns:
        The wide network.

    Raises:
        ValueError: as :func:`draw_compatible`.

    Example:
        >>> from phenodl.models import mlp
        >>> params = mlp.init(jax.random.key(0), [1, 2, 3, 1])
        >>> wide = jax.jit(lambda key: embed(params, [5, 3], key))(jax.random.key(1))
        >>> widths(wide)
        (1, 5, 3, 1)
    """
    narrow = require_wider(params, hidden)
    noise = _draw_noise(params, hidden, key)
    kept = [
        few + _integer(each, many - few + 1)
        for each, few, many in zip(noise.nulls, narrow, hidden, strict=True)
    ]
    padded = _with_nulls(params, hidden, [spread * _signed(each) for each in noise.biases])
    return compatible(padded, _choice(noise, kept, spread))


class _Noise(NamedTuple):
    """Numbers uniform in [0, 1), from which an embedding is made."""

    nulls: list[Float[Array, ""]]
    biases: list[Float[Array, " wide"]]
    sources: list[Float[Array, " wide"]]
    shares: list[Float[Array, " wide"]]
    remainders: list[Float[Array, "wide_out wide_in"]]


def _draw_noise(params: Params, hidden: Sequence[int], key: Key[Array, ""]) -> _Noise:
    """All of it in one draw: each call of a generator is compiled anew."""
    dtype = params["layer_0"]["weight"].dtype
    per_unit = [jnp.zeros(many, dtype) for many in hidden]
    shapes = _Noise(
        nulls=[jnp.zeros((), dtype) for _ in hidden],
        biases=per_unit,
        sources=per_unit,
        shares=per_unit,
        remainders=[jnp.zeros(shape, dtype) for shape in zip(hidden[1:], hidden[:-1], strict=True)],
    )
    flat, unravel = ravel_pytree(shapes)
    return unravel(jax.random.uniform(key, flat.shape, dtype))


def _choice(noise: _Noise, kept: Sequence[int | Int[Array, ""]], spread: float) -> Choice:
    """In each layer the first ``kept`` units are their own sources, the others copy any of them."""

    def source(noise: Float[Array, " wide"], kept: int | Int[Array, ""]) -> Int[Array, " wide"]:
        own = jnp.arange(len(noise))
        return jnp.where(own < kept, own, _integer(noise, kept))

    def share(noise: Float[Array, " wide"], source: Int[Array, " wide"]) -> Float[Array, " wide"]:
        fibre = (source[:, None] == source[None]).astype(noise.dtype)
        size, free = fibre.sum(1), spread * _signed(noise)
        return 1 / size + (free - jnp.matmul(fibre, free) / size)

    sources = tuple(source(*each) for each in zip(noise.sources, kept, strict=True))
    return Choice(
        sources,
        tuple(share(*each) for each in zip(noise.shares, sources, strict=True)),
        tuple(spread * _signed(each) for each in noise.remainders),
    )


def _integer(noise: Float[Array, "*n"], below: int | Int[Array, ""]) -> Int[Array, "*n"]:
    return jnp.floor(noise * jnp.asarray(below, noise.dtype)).astype(int)


def _signed(noise: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return 2 * noise - 1


def _with_nulls(
    params: Params, hidden: Sequence[int], biases: Sequence[Float[Array, " wide"]]
) -> Params:
    """Fills every hidden layer up with null units, with these biases where they are free."""
    narrow = widths(params)[1:-1]
    each = zip(narrow, hidden, biases, strict=True)
    for layer, (few, many, bias) in enumerate(each):
        params = units.null(params, neurons(params, layer), many - few)
        if "bias" in params[f"layer_{layer + 1}"]:
            params = with_units(params, layer, "bias", slice(few, None), bias[few:])
    return params
