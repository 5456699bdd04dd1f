"""General compatible embeddings: many units copied at once, into fibres.

The general form of an embedding in width (EP-h, arXiv 2111.15527): a map from the wide units onto
the narrow ones, a share for each, and freedom left in the weights between two wide layers. Splits
are those without the latter; see :mod:`phenodl.embedding.width`.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from phenodl.embedding import units
from phenodl.embedding.networks import Params, layers, network, widths
from phenodl.embedding.width import neurons


class Choice(NamedTuple):
    """What is free in a general compatible embedding.

    Attributes:
        sources: per hidden layer, the number of the narrow unit that each wide unit copies. The
            copies of one unit are its fibre; only a unit without output weights may lack one.
        shares: per hidden layer, what each wide unit has of its source's output weights; they sum
            to one over each fibre.
        remainders: per weight between two hidden layers, any matrix of the wide shape. The part
            that neither the signals nor the errors notice is added to the weight.
    """

    sources: tuple[Int[Array, " wide"], ...]
    shares: tuple[Float[Array, " wide"], ...]
    remainders: tuple[Float[Array, "wide_out wide_in"], ...]


def compatible(params: Params, choice: Choice) -> Params:
    """The general compatible embedding of EP-h (arXiv 2111.15527).

    Wide units compute what their sources compute, and their errors are the shares of theirs. With
    I the sources and beta the shares this asks of a weight W' between two wide layers that its rows
    sum to W over each fibre t, sum_{j in t} W'_ij = W_{I(i) t}, and its columns, weighted, do so
    over each fibre s, sum_{i in s} beta_i W'_ij = beta_j W_{s I(j)}. The solution
    W_{I(i) I(j)} beta_j is what splits make; the rest is :func:`unnoticed`.

    Args:
        params: of the narrow network.
        choice: of sources, shares and remainders. Where they are traced their shapes alone can be
            checked, and a source that does not exist gives NaN.

    Returns:
        The wide network.

    Raises:
        ValueError: these are not the parameters of a fully connected network, or the choice is for
            other hidden layers, copies a unit that does not exist, leaves out one that matters, or
            has shares that do not sum to one.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((2, 1))},
        ...           "layer_1": {"weight": jnp.ones((1, 2))}}
        >>> choice = Choice((jnp.array([0, 1, 1]),), (jnp.array([1, 0.25, 0.75]),), ())
        >>> compatible(params, choice)["layer_1"]["weight"].tolist()
        [[1.0, 0.25, 0.75]]
    """
    hidden = len(widths(params)) - 2
    expected = (hidden, hidden, max(hidden - 1, 0))
    if tuple(map(len, choice)) != expected:
        raise ValueError(
            f"choice: expected sources, shares and remainders of {expected} layers for a network "
            f"of {hidden} hidden ones, got {tuple(map(len, choice))}"
        )
    _require_shapes(choice)
    wide = params
    for layer, (source, share) in enumerate(zip(choice.sources, choice.shares, strict=True)):
        _require_fibres(layer, params[f"layer_{layer + 1}"]["weight"], source, share)
        wide = units.copy(wide, neurons(wide, layer), source, share)
    first, *others = layers(wide)
    for number, remainder in enumerate(choice.remainders):
        added = unnoticed(
            remainder, choice.sources[number], choice.sources[number + 1], choice.shares[number + 1]
        )
        others[number] = {**others[number], "weight": others[number]["weight"] + added}
    return network([first, *others])


def unnoticed(
    matrix: Float[Array, "wide_out wide_in"],
    source_in: Int[Array, " wide_in"],
    source_out: Int[Array, " wide_out"],
    share_out: Float[Array, " wide_out"],
) -> Float[Array, "wide_out wide_in"]:
    """The part of a matrix that can be added to a weight between two wide layers.

    It is the orthogonal projection on the matrices whose rows sum to zero over each fibre of the
    units they take, and whose columns, weighted by the shares, do so over each fibre of the units
    they give: (k_s - 1)(k_t - 1) dimensions for each pair of fibres of k_s and k_t units.

    Args:
        matrix: any.
        source_in: sources of the units it takes.
        source_out: sources of the units it gives.
        share_out: their shares.

    Example:
        >>> copies = jnp.array([0, 0])
        >>> unnoticed(jnp.array([[1.0, 2.0], [3.0, 8.0]]), copies, copies, jnp.array([0.5, 0.5]))
        Array([[ 1., -1.],
               [-1.,  1.]], dtype=float32)
    """
    fibre_in, fibre_out = (
        (source[:, None] == source[None]).astype(matrix.dtype) for source in (source_in, source_out)
    )
    rows = matrix - jnp.matmul(matrix, fibre_in / fibre_in.sum(0, keepdims=True))
    squares = jnp.matmul(fibre_out, share_out**2)[:, None]
    return rows - share_out[:, None] * jnp.matmul(fibre_out, share_out[:, None] * rows) / squares


def _require_shapes(choice: Choice) -> None:
    """Refuses shares and remainders of other shapes than the sources ask for."""
    wide = [np.shape(source)[0] for source in choice.sources]
    expected = {
        "shares": [(many,) for many in wide],
        "remainders": list(zip(wide[1:], wide[:-1], strict=True)),
    }
    for name, shapes in expected.items():
        found = [np.shape(each) for each in getattr(choice, name)]
        if found != shapes:
            raise ValueError(f"choice: expected {name} of shapes {shapes}, got {found}")


def _require_fibres(
    layer: int,
    outward: Float[Array, "fan_out narrow"],
    source: Int[Array, " wide"],
    share: Float[Array, " wide"],
) -> None:
    """Refuses sources that do not exist or are missing, and shares that do not sum to one."""
    if isinstance(source, Tracer):
        return
    narrow, where = outward.shape[1], f"of hidden layer {layer}"
    sources = np.asarray(source)
    if sources.min() < 0 or sources.max() >= narrow:
        raise ValueError(
            f"choice: expected sources {where} in [0, {narrow}), got {sources.tolist()}"
        )
    copied = np.bincount(sources, minlength=narrow) > 0
    if not isinstance(outward, Tracer) and np.asarray(outward)[:, ~copied].any():
        raise ValueError(
            f"choice: expected a copy of every unit {where} that has output weights, "
            f"got sources {sources.tolist()}"
        )
    if isinstance(share, Tracer):
        return
    shares = np.asarray(share)
    off = np.abs(np.bincount(sources, shares, narrow) - 1)[copied].max()
    rounding = len(shares) * np.abs(shares).max() * np.finfo(np.float32).eps
    if not off <= rounding:
        raise ValueError(
            f"choice: expected the shares of all copies of a unit {where} to sum to one, "
            f"got {shares.tolist()}"
        )
