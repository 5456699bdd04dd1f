"""The plateaus of a wide network: how many neurons it has there, and near which critical point.

Where the plateaus of a curve lie is the rule of :mod:`phenodl.plateaus`; what tells them apart is
the function of the network, as one with equally many neurons may rest at several. Its reduction,
polished, is the critical point of the narrow network that it embeds (EP, arXiv 2105.14573, Fig. 1).
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from phenodl import plateaus
from phenodl.embedding.critical import CriticalPoints, polish
from phenodl.embedding.networks import Activation, Params, widths
from phenodl.embedding.reduction import Reduction, function_gap, narrowest


class Plateau(NamedTuple):
    """A plateau of a wide network.

    Attributes:
        index: of the record at which the gradient is least.
        begin: the first record of the plateau.
        end: the last one.
        loss: at ``index``.
        reduction: of the network there to the narrowest one with its function.
        function_gap: root mean square by which the reduction changes the outputs.
    """

    index: int
    begin: int
    end: int
    loss: float
    reduction: Reduction
    function_gap: float


def find_plateaus(
    grad_norm: Float[ArrayLike, " steps"],
    loss: Float[ArrayLike, " steps"],
    params: Params,
    inputs: Float[Array, "features n"],
    activation: Activation,
    *,
    prominence: float = 1.0,
    least_loss: float = 1e-10,
    tolerance: float = 1e-2,
) -> list[Plateau]:
    """The plateaus of one recorded history; neighbours with one function are one.

    Args:
        grad_norm: Euclidean norm of the gradient; NaN from the end of the run on.
        loss: of the wide network.
        params: its history, every array with a leading axis of the same length.
        inputs: the data, one column per data point.
        activation: of the hidden layers.
        prominence: decades by which the norm rises on both sides of a plateau.
        least_loss: below it the run is taken to have converged.
        tolerance: root mean square by which outputs may differ and count as the same, for
            neighbours and for :func:`phenodl.embedding.reduction.narrowest`.

    Raises:
        ValueError: the histories differ in length.

    Example:
        >>> incoming, outgoing = np.ones((5, 6, 1)), np.ones((5, 1, 6))
        >>> layers = {"layer_0": {"weight": incoming}, "layer_1": {"weight": outgoing}}
        >>> plateau, = find_plateaus(
        ...     [1.0, 1e-1, 1e-3, 1e-1, 1.0], np.ones(5), layers, jnp.ones((1, 3)), jnp.tanh
        ... )
        >>> plateau.index, plateau.begin, plateau.end, plateau.reduction.hidden
        (2, 2, 2, (1,))
    """
    norm, loss = np.asarray(grad_norm, float), np.asarray(loss, float)
    if any(len(leaf) != len(norm) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"params must have a leading axis of the {len(norm)} records")
    found = plateaus.find(norm, loss, prominence=prominence, least_loss=least_loss)
    wide = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in found.index]
    moved = [
        function_gap(before, after, inputs, activation) > tolerance
        for before, after in itertools.pairwise(wide)
    ]
    chosen = plateaus.merge_neighbours(norm[found.index], np.cumsum([0, *moved])[: len(wide)])
    narrow = {
        number: narrowest(wide[number], inputs, activation, tolerance=tolerance)
        for number in chosen
    }
    return [
        Plateau(
            *(int(places[number]) for places in found),
            loss=float(loss[found.index[number]]),
            reduction=narrow[number],
            function_gap=function_gap(wide[number], narrow[number].params, inputs, activation),
        )
        for number in chosen
    ]


def polish_reductions(
    loss: Callable[[Params, Any], Float[Array, ""]],
    reductions: Sequence[Reduction],
    batches: Any,
    *,
    steps: int = 30,
) -> CriticalPoints:
    """The critical points that reductions to networks of one shape are near.

    Args:
        loss: of the problem.
        reductions: all of one shape.
        batches: the data of each, stacked along a leading axis.
        steps: of Newton's method.

    Returns:
        Points along a leading axis.

    Raises:
        ValueError: there is no reduction, or their shapes differ.

    Example:
        >>> near = Reduction({"layer_0": {"weight": jnp.array([[1.5]])}}, ())
        >>> def loss(params, target):
        ...     return (params["layer_0"]["weight"][0, 0] ** 2 - target) ** 2
        >>> polish_reductions(loss, [near], jnp.array([4.0])).params["layer_0"]["weight"].tolist()
        [[[2.0]]]
    """
    shapes = {widths(reduction.params) for reduction in reductions}
    if len(shapes) != 1:
        raise ValueError(
            f"reductions must be one or more of equal widths, got the widths {sorted(shapes)}"
        )
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(each.params for each in reductions))
    return _polish(loss, stacked, batches, steps)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _polish(loss: Callable, params: Params, batches: Any, steps: int) -> CriticalPoints:
    def one(params: Params, batch: Any) -> CriticalPoints:
        return polish(lambda params: loss(params, batch), params, steps=steps)

    return jax.vmap(one)(params, batches)
