"""How fast gradient flow leaves a saddle: the distance grows as exp(|λ_min| t) while it is small.

Linearised at the saddle, dθ/dt = -H (θ - θ*), so that the part of the displacement along the lowest
eigenvector grows at the rate |λ_min|, and no other part grows faster. Flows start from a small
displacement, along that eigenvector or in a random direction, and the growth is fitted where it has
left the start behind and the next order of the expansion does not yet count.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Key, PyTree

from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.curvature import operators
from phenodl.embedding.critical import require_small_gradient
from phenodl.optim import flow
from phenodl.precision import require_double_precision
from phenodl.protocol import (
    Data,
    Hyper,
    Layout,
    LossFn,
    Objective,
    Params,
    Probe,
    Problem,
    View,
)
from phenodl.trainer import Trainer, in_memory

_STABLE = 2.0  # step times the largest |λ|; Runge-Kutta of fourth order is stable up to 2.785
_ACCURATE = 0.2  # step times |λ_min|, which makes an error of 1e-5 in the rate


class Saddle(NamedTuple):
    """A critical point with what the flow does next to it.

    Attributes:
        params: the point.
        eigenvalue: the lowest of the Hessian, negative at a strict saddle.
        direction: its unit eigenvector, a pytree like ``params``.
        sharpness: the largest magnitude of an eigenvalue.
        grad_norm: Euclidean norm of the gradient there.
    """

    params: Params
    eigenvalue: Float[Array, "*batch"]
    direction: Params
    sharpness: Float[Array, "*batch"]
    grad_norm: Float[Array, "*batch"]


class Escapes(NamedTuple):
    """The growth of small displacements from saddles, one row each.

    Attributes:
        time: of the flow.
        distance: |θ - θ*|; NaN after the end.
        along: the part of it along the lowest eigenvector; NaN after the end.
    """

    time: Float[np.ndarray, "saddle time"]
    distance: Float[np.ndarray, "saddle time"]
    along: Float[np.ndarray, "saddle time"]


def saddle(loss: LossFn, params: Params) -> Saddle:
    """The lowest eigenvalue and eigenvector of the dense Hessian at a critical point.

    Args:
        loss: maps parameters to a scalar.
        params: the critical point.

    Example:
        >>> found = saddle(lambda x: 3 * x[0] ** 2 - x[1] ** 2, jnp.zeros(2))
        >>> float(found.eigenvalue), jnp.abs(found.direction).tolist(), float(found.sharpness)
        (-2.0, [0.0, 1.0], 6.0)
    """
    matrix = operators.dense(operators.hessian(loss, params), params)
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    _, unravel = ravel_pytree(params)
    grad_norm = jnp.linalg.norm(ravel_pytree(jax.grad(loss)(params))[0])
    sharpness = jnp.abs(eigenvalues).max()
    return Saddle(params, eigenvalues[0], unravel(vectors[:, 0]), sharpness, grad_norm)


def displaced(at: Saddle, size: float, key: Key[Array, ""] | None = None) -> Params:
    """The saddle's parameters, moved by a small distance.

    Args:
        at: the saddle.
        size: the distance.
        key: of a random direction; by default it is that of the lowest eigenvector.

    Example:
        >>> at = saddle(lambda x: 3 * x[0] ** 2 - x[1] ** 2, jnp.zeros(2))
        >>> jnp.abs(displaced(at, 0.5)).tolist()
        [0.0, 0.5]
    """
    flat, unravel = ravel_pytree(at.direction)
    if key is not None:
        flat = jax.random.normal(key, flat.shape, flat.dtype)
        flat = flat / jnp.linalg.norm(flat)
    return jax.tree.map(lambda start, step: start + size * step, at.params, unravel(flat))


def escape(
    problem: Problem,
    saddles: Saddle,
    starts: Params,
    *,
    data: Mapping[str, PyTree] = MappingProxyType({}),
    end: float = 1e-2,
    steps: int = 20_000,
    every: int = 10,
    name: str = "escapes",
    trainer: Trainer = in_memory,
) -> Escapes:
    """Follows the gradient flow away from many saddles of one architecture, in one training.

    Runge-Kutta steps of fourth order, as long as the spectrum of each saddle allows.

    Args:
        problem: whose loss has the saddles; its own ``init`` is not used.
        saddles: from :func:`saddle`, stacked along a leading axis.
        starts: near them, from :func:`displaced`, stacked alike.
        data: that differ between saddles (their targets), stacked alike; they join the problem's.
        end: distance from the saddle at which a flow ends.
        steps: at most; max(5, sharpness / (2 |λ_min|)) of them make a factor of e.
        every: steps between two records.
        name: of the training.
        trainer: trains with the arguments of :func:`phenodl.training.train`, which it replaces. If
            it stores what it trains, :func:`escapes_of` gives the result again.

    Raises:
        ValueError: precision is single, a point is not critical (see
            :func:`phenodl.embedding.critical.require_critical`), or its lowest eigenvalue is not
            negative.

    Example:
        >>> problem = Problem(lambda *_: (), loss=lambda x, _: (x[0] ** 2 - x[1] ** 2) / 2)
        >>> with jax.enable_x64(True):
        ...     at = saddle(lambda x: problem.loss(x, {}), jnp.zeros(2))
        ...     saddles, starts = jax.tree.map(lambda leaf: leaf[None], (at, displaced(at, 1e-6)))
        ...     escapes = escape(problem, saddles, starts, steps=99, every=1)
        >>> rate(escapes.time, escapes.distance, (1e-6, 1e-2)).round(4).tolist()
        [1.0]
    """
    require_double_precision("escape")
    require_small_gradient(saddles.grad_norm)
    highest = float(np.max(saddles.eigenvalue))
    if not highest < 0:
        raise ValueError(
            f"saddles: expected a lowest eigenvalue below 0 at each, got {highest:.2g}"
        )
    leaving, training = _flow(problem.loss, problem.batch, end, every)
    leaving = leaving._replace(data=problem.data)
    runs = sweep.product(
        key=jax.random.key(0), instance={**data, "saddle": saddles, "start": starts}
    )
    trained = trainer(name, leaving, runs=runs, steps=steps, **training)
    return escapes_of(trained)


def escapes_of(trained: xr.Dataset) -> Escapes:
    """The growths from the results of :func:`escape`'s trainer."""
    return Escapes(*(trained[name].values for name in ("flow_time", "distance", "along")))


def rate(
    time: Float[np.ndarray, "*saddle time"],
    size: Float[np.ndarray, "*saddle time"],
    window: tuple[float, float],
) -> Float[np.ndarray, "*saddle"]:
    """The rate of exponential growth: the slope of log size against time, by least squares.

    Args:
        time: of each record.
        size: that grows; NaN where there is no record.
        window: sizes from the first to the last of which the line is fitted.

    Returns:
        One rate for each row; NaN where fewer than three records lie in the window.

    Example:
        >>> time = np.linspace(0, 4, 50)
        >>> rate(time, 1e-5 * np.exp(2.5 * time), (1e-5, 1e-2)).round(9).tolist()
        2.5
    """
    inside = (size >= window[0] * (1 - 1e-6)) & (size <= window[1])
    count = inside.sum(axis=-1, keepdims=True)

    def centred(values: np.ndarray) -> np.ndarray:
        kept = np.where(inside, values, 0.0)
        return np.where(inside, kept - kept.sum(axis=-1, keepdims=True) / np.maximum(count, 1), 0.0)

    t = centred(time)
    height = centred(np.log(np.where(inside, size, 1.0)))
    spread = np.where(count[..., 0] >= 3, (t * t).sum(axis=-1), np.nan)
    return (t * height).sum(axis=-1) / spread


@functools.lru_cache(maxsize=8)
def _flow(
    loss: Callable[[Params, Any], Array], batch: Callable[..., Any], end: float, every: int
) -> tuple[Problem, Mapping[str, Any]]:
    """The flow, in units of each saddle's own time step, and what is recorded of it."""

    def start(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del key, hyper
        return data["start"]

    def scaled(params: Params, batch: Data) -> Float[Array, ""]:
        return loss(params, batch) * _step(batch["saddle"])

    def displacement(view: View) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        at = view.batch["saddle"]
        moved = jax.tree.map(jnp.subtract, view.params, at.params)
        return ravel_pytree(moved)[0], ravel_pytree(at.direction)[0]

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        moved, direction = displacement(view)
        return state, {
            "flow_time": view.time * _step(view.batch["saddle"]),
            "distance": jnp.linalg.norm(moved),
            "along": jnp.abs(moved @ direction),
        }

    def far(view: View) -> Bool[Array, ""]:
        return jnp.linalg.norm(displacement(view)[0]) > end

    training = {
        "method": flow.rk4(_one),
        "probes": (Probe(measure, every=every),),
        "stop": far,
        "layout": Layout(compiler_options=QUICKLY),
    }
    return Problem(start, scaled, batch), MappingProxyType(training)


def _step(at: Saddle) -> Float[Array, ""]:
    return 1 / jnp.maximum(at.sharpness / _STABLE, jnp.abs(at.eigenvalue) / _ACCURATE)


def _one(objective: Objective, params: Params, hyper: Hyper) -> Float[Array, ""]:
    del params, hyper
    return jnp.ones_like(objective.loss)
