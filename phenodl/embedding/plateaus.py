"""The rests of a wide network: how many neurons it has there, and near which critical point.

Where the plateaus of a curve lie is the rule of :mod:`phenodl.plateaus`; what tells them apart is
the function of the network, as one with equally many neurons may rest at several. Its reduction,
polished, is the critical point of the narrow network that it embeds (EP, arXiv 2105.14573, Fig. 1).
Not every embedded critical point is a saddle of the wide network, so that a run may end at one.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from phenodl import plateaus
from phenodl.compiler import ONCE
from phenodl.embedding.critical import CriticalPoints, polish
from phenodl.embedding.networks import Activation, Params, widths
from phenodl.embedding.reduction import Reduction, narrowest, outputs
from phenodl.optim import newton


class Rest(NamedTuple):
    """A place at which a wide network rests.

    Attributes:
        index: of the record at which the gradient is least.
        loss: there.
        outputs: of the network there, one column per data point.
        reduction: to the narrowest network with this function.
        function_gap: root mean square by which the reduction changes the outputs.
    """

    index: int
    loss: float
    outputs: Float[np.ndarray, "outputs n"]
    reduction: Reduction
    function_gap: float


def find_rests(
    grad_norm: Float[ArrayLike, " steps"],
    loss: Float[ArrayLike, " steps"],
    params: Params,
    inputs: Float[Array, "features n"],
    activation: Activation,
    *,
    prominence: float = 1.0,
    least_loss: float = 1e-10,
    stationary: float = 1e-5,
    tolerance: float = 1e-2,
) -> list[Rest]:
    """Where one recorded run rests: at its plateaus, and at its end if the gradient vanishes there.

    Neighbours with one function are one.

    Args:
        grad_norm: Euclidean norm of the gradient; NaN from the end of the run on.
        loss: of the wide network.
        params: its history, every array with a leading axis of the same length.
        inputs: the data, one column per data point.
        activation: of the hidden layers.
        prominence: decades by which the norm rises on both sides of a plateau.
        least_loss: at or below it the run is taken to have converged, and rests nowhere.
        stationary: norm up to which the run rests at its end.
        tolerance: root mean square by which outputs may differ and count as the same, for
            neighbours and for :func:`phenodl.embedding.reduction.narrowest`.

    Returns:
        The rests in the order of time.

    Raises:
        ValueError: the histories differ in length.

    Example:
        >>> incoming, outgoing = np.ones((5, 6, 1)), np.ones((5, 1, 6))
        >>> layers = {"layer_0": {"weight": incoming}, "layer_1": {"weight": outgoing}}
        >>> rest, = find_rests(
        ...     [1.0, 1e-1, 1e-3, 1e-1, 1.0], np.ones(5), layers, jnp.ones((1, 3)), jnp.tanh
        ... )
        >>> rest.index, rest.reduction.hidden
        (2, (1,))
    """
    norm, loss = np.asarray(grad_norm, float), np.asarray(loss, float)
    if any(len(leaf) != len(norm) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"params must have a leading axis of the {len(norm)} records")
    places = plateaus.find(norm, loss, prominence=prominence, least_loss=least_loss).index
    last = np.flatnonzero(np.isfinite(norm))[-1:]
    places = np.append(places, last[(norm[last] <= stationary) & (loss[last] > least_loss)])
    wide = [jax.tree.map(lambda leaf, at=at: leaf[at], params) for at in places]
    signals = [np.asarray(outputs(each, inputs, activation)) for each in wide]
    return [
        _rest(int(places[one]), loss, wide[one], signals[one], inputs, activation, tolerance)
        for one in plateaus.merge_neighbours(norm[places], _functions(signals, tolerance))
    ]


def polish_reductions(
    loss: Callable[[Params, Any], Float[Array, ""]],
    reductions: Sequence[Reduction],
    batches: Any,
    *,
    steps: int = 40,
    descent_steps: int = 0,
) -> CriticalPoints:
    """The critical points that reductions to networks of one shape are near.

    Args:
        loss: of the problem.
        reductions: all of one shape.
        batches: the data of each, stacked along a leading axis.
        steps: of Newton's method.
        descent_steps: how many of them go down in the loss first, where its gradient is not nearly
            zero; the others go down in the gradient. All of them for minima: a rest may be so far
            up a flat valley that going down in the gradient alone takes hundreds of steps. None for
            saddles, which they would leave.

    Returns:
        Points along a leading axis.

    Raises:
        ValueError: there is no reduction, their shapes differ, or they are in single precision.

    Example:
        >>> near = Reduction({"layer_0": {"weight": np.array([[1.5]])}}, ())
        >>> def loss(params, target):
        ...     return (params["layer_0"]["weight"][0, 0] ** 2 - target) ** 2
        >>> with jax.enable_x64(True):
        ...     points = polish_reductions(loss, [near], np.array([4.0]))
        >>> points.params["layer_0"]["weight"].round(12).tolist()
        [[[2.0]]]
    """
    shapes = {widths(reduction.params) for reduction in reductions}
    if len(shapes) != 1:
        raise ValueError(
            f"reductions must be one or more of equal widths, got the widths {sorted(shapes)}"
        )
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(each.params for each in reductions))
    return _polish(loss, stacked, batches, jnp.arange(steps) < descent_steps)


def _functions(signals: Sequence[np.ndarray], tolerance: float) -> Int[np.ndarray, " places"]:
    """A number for each place, which grows where the function is no longer that of the last."""
    moved = [_rms(after - before) > tolerance for before, after in itertools.pairwise(signals)]
    return np.cumsum([0, *moved])[: len(signals)]


def _rest(
    place: int,
    loss: Float[np.ndarray, " steps"],
    wide: Params,
    signal: Float[np.ndarray, "outputs n"],
    inputs: Float[Array, "features n"],
    activation: Activation,
    tolerance: float,
) -> Rest:
    reduction = narrowest(wide, inputs, activation, tolerance=tolerance)
    gap = _rms(np.asarray(outputs(reduction.params, inputs, activation)) - signal)
    return Rest(place, float(loss[place]), signal, reduction, gap)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@functools.partial(jax.jit, static_argnums=0, compiler_options=dict(ONCE))
def _polish(
    loss: Callable, params: Params, batches: Any, descend: Bool[Array, " steps"]
) -> CriticalPoints:
    def one(params: Params, batch: Any) -> CriticalPoints:
        def here(params: Params) -> Float[Array, ""]:
            return loss(params, batch)

        def move(params: Params, descend: Bool[Array, ""]) -> tuple[Params, None]:
            step = newton.newton_step(here, params, descend)
            return jax.tree.map(jnp.add, params, step), None

        return polish(here, jax.lax.scan(move, params, descend)[0], steps=0)

    return jax.vmap(one)(params, batches)
