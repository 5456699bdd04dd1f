"""The critical points of narrow networks, and which of them a plateau of a wide one belongs to.

While a wide network stands at a plateau it should have the loss and the function of a critical
point of a narrow one (EP, arXiv 2105.14573, Fig. 1). Points are told apart by function: those that
are equal up to the order of their units, or up to the sign of a unit whose activation is odd, are
one entry, and so is a family on which only redundant parameters vary, such as the splits of a
point of a narrower network.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from phenodl.embedding.networks import Activation, Params, widths
from phenodl.embedding.reduction import output_gap, outputs


class Entry(NamedTuple):
    """A critical point of a narrow network.

    Attributes:
        hidden: units of each hidden layer.
        loss: at the point.
        outputs: of the network, one column per data point.
        params: one representative.
        found: how many of the given points are this one.
    """

    hidden: tuple[int, ...]
    loss: float
    outputs: Float[np.ndarray, "outputs n"]
    params: Params
    found: int


class Match(NamedTuple):
    """The entry of a catalogue whose function is nearest to that of a network.

    Attributes:
        number: of the entry.
        loss_gap: loss of the network minus that of the entry.
        function_gap: root mean square difference of the outputs on the data.
    """

    number: int
    loss_gap: float
    function_gap: float


def distinct(
    params: Params,
    loss: Float[ArrayLike, " points"],
    inputs: Float[Array, "features n"],
    activation: Activation,
    *,
    tolerance: float = 1e-6,
) -> tuple[Entry, ...]:
    """The distinct ones among critical points of one architecture, ordered by loss.

    Args:
        params: of all points, stacked along a leading axis; accepted ones only.
        loss: of each point.
        inputs: the training data, one column per data point.
        activation: of the hidden layers.
        tolerance: points are one when both their losses and, in root mean square, their outputs
            differ by no more.

    Raises:
        ValueError: there is not one loss per point, or the stacked ``params`` are not those of a
            fully connected network.

    Example:
        >>> from phenodl.models import mlp
        >>> point = mlp.init(jax.random.key(0), [1, 2, 1])
        >>> turned = jax.tree.map(lambda leaf: leaf[..., ::-1], point)  # the other order of units
        >>> turned["layer_0"]["weight"] = point["layer_0"]["weight"][::-1]
        >>> both = jax.tree.map(lambda *leaves: np.stack(leaves), point, turned)
        >>> [entry.found for entry in distinct(both, [0.5, 0.5], np.ones((1, 3)), jax.numpy.tanh)]
        [2]
    """
    loss = np.asarray(loss, float)
    leaves = jax.tree.leaves(params)
    if loss.ndim != 1 or any(np.shape(leaf)[:1] != loss.shape for leaf in leaves):
        raise ValueError(
            f"loss must hold one number per point, got shape {loss.shape} for parameters stacked "
            f"as {np.shape(leaves[0])}"
        )
    if not len(loss):
        return ()
    stacked = jax.tree.map(np.asarray, params)
    one = [jax.tree.map(lambda leaf, row=row: leaf[row], stacked) for row in range(len(loss))]
    hidden = widths(one[0])[1:-1]
    entries: list[Entry] = []
    for row in np.argsort(loss, kind="stable"):
        signal = np.asarray(outputs(one[row], inputs, activation))
        new = Entry(hidden, float(loss[row]), signal, one[row], 1)
        for number, entry in enumerate(entries):
            if _same(entry, new, tolerance):
                entries[number] = entry._replace(found=entry.found + 1)
                break
        else:
            entries.append(new)
    return tuple(entries)


def catalogue(searches: Iterable[Sequence[Entry]], *, tolerance: float = 1e-6) -> tuple[Entry, ...]:
    """One catalogue of the distinct critical points of several architectures.

    Every critical point of a narrow network is, embedded, one of a wider network too. An entry
    whose function an earlier search has is therefore left out: what remains stands at the least
    width that has it.

    Args:
        searches: from :func:`distinct`, the narrowest architecture first.
        tolerance: as in :func:`distinct`.

    Returns:
        Entries in the order of the searches, by loss within each.
    """
    entries: list[Entry] = []
    for search in searches:
        entries += [
            new for new in search if not any(_same(entry, new, tolerance) for entry in entries)
        ]
    return tuple(entries)


def match(entries: Sequence[Entry], loss: float, outputs: Float[ArrayLike, "outputs n"]) -> Match:
    """The entry nearest in function to a network on the same data, and how far that is.

    Args:
        entries: of a catalogue, at least one.
        loss: of the network.
        outputs: of the network, one column per data point.

    Raises:
        ValueError: there is no entry, or its outputs have another shape.

    Example:
        >>> flat = Entry((), 0.5, np.zeros((1, 2)), {}, 1)
        >>> match([flat, flat._replace(outputs=np.ones((1, 2)))], 0.75, np.full((1, 2), 0.75))
        Match(number=1, loss_gap=0.25, function_gap=0.25)
    """
    if not entries:
        raise ValueError("entries must hold at least one critical point, got none")
    outputs = np.asarray(outputs, float)
    if outputs.shape != entries[0].outputs.shape:
        raise ValueError(
            f"outputs must be on the data of the catalogue, {entries[0].outputs.shape}, got "
            f"{outputs.shape}"
        )
    gaps = np.array([output_gap(entry.outputs, outputs) for entry in entries])
    number = int(gaps.argmin())
    return Match(number, float(loss) - entries[number].loss, float(gaps[number]))


def _same(a: Entry, b: Entry, tolerance: float) -> bool:
    near = abs(a.loss - b.loss) <= tolerance
    return near and output_gap(a.outputs, b.outputs) <= tolerance
