"""Critical points of small networks: found from many random starts at once, polished, required.

What is called critical here has a gradient, with respect to all parameters and in the Euclidean
norm, below 1e-13, and parameters of bounded norm: along a valley that falls towards infinity the
gradient gets as small as one likes, without any critical point to come to.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Key, PyTree

from phenodl import sweep
from phenodl.compiler import ONCE
from phenodl.optim import newton
from phenodl.precision import require_double_precision
from phenodl.protocol import Layout, LossFn, Params, Probe, Problem, View
from phenodl.trainer import Trainer, in_memory

TOLERANCE = 1e-13
"""Euclidean norm of the gradient below which a point counts as critical, in double precision."""

BOUND = 100.0
"""Norm of the parameters up to which a critical point is accepted, for data of order one."""

_POLISH_STEPS = 30
_CHUNK = 50  # steps, by which most starts have come to a point or will come to none


class CriticalPoints(NamedTuple):
    """Points that a search came to; all attributes share its leading axes.

    Attributes:
        params: every leaf has the leading axes.
        loss: there.
        grad_norm: Euclidean norm of the gradient there.
        norm: Euclidean norm of the parameters.
        accepted: whether both norms are small enough.
    """

    params: Params
    loss: Float[Array | np.ndarray, "*axes"]
    grad_norm: Float[Array | np.ndarray, "*axes"]
    norm: Float[Array | np.ndarray, "*axes"]
    accepted: Bool[Array | np.ndarray, "*axes"]

    def take(self, where: Any) -> "CriticalPoints":
        """The points at an index, a mask or a tuple of them over the leading axes.

        Example:
            >>> points = CriticalPoints({"x": np.ones((3, 2))}, *np.ones((3, 3)), np.arange(3) > 0)
            >>> points.take(points.accepted).params["x"].shape
            (2, 2)
        """
        return jax.tree.map(lambda leaf: leaf[where], self)


def search(
    problem: Problem,
    *,
    key: Key[Array, ""],
    seeds: Sequence[int],
    instance: Mapping[str, PyTree] | None = None,
    steps: int = 150,
    descent_steps: float | Sequence[float] = float("inf"),
    tolerance: float = TOLERANCE,
    bound: float = BOUND,
    name: str = "critical-points",
    trainer: Trainer = in_memory,
) -> CriticalPoints:
    """Looks for critical points from the random starts of a problem, all in one training.

    Newton's method goes down in the loss, and then down in the gradient, see
    :func:`phenodl.optim.newton.critical_point`.

    Args:
        problem: a full-batch problem of up to some 100 parameters.
        key: of the search.
        seeds: one start each.
        instance: problem instances, as an axis of :func:`phenodl.sweep.product`; each is searched
            from all seeds.
        steps: of Newton's method, at most.
        descent_steps: how many of them go down in the loss: infinite for minima, few (0 to 5) for
            saddles as well. Several numbers make an axis: every start is used with each.
        tolerance: norm of the gradient below which a point is accepted.
        bound: norm of the parameters up to which it is.
        name: of the training.
        trainer: trains with the arguments of :func:`phenodl.training.train`, which it replaces. If
            it stores what it trains, :func:`points_of` gives the points again.

    Returns:
        Points with leading axes (seeds,) or (instances, seeds), and one more for several numbers
        of ``descent_steps``.

    Raises:
        ValueError: precision is single.

    Example:
        >>> from phenodl.models import mlp
        >>> with jax.enable_x64(True):
        ...     x = np.linspace(-1, 1, 20)[:, None]
        ...     problem = mlp.problem(x, np.tanh(3 * x), hidden=[1])
        ...     points = search(problem, key=jax.random.key(0), seeds=range(4), steps=60)
        >>> points.accepted.tolist(), points.params["layer_0"]["weight"].shape
        ([True, True, True, True], (4, 1, 1))
    """
    require_double_precision("search")
    axes: dict[str, Any] = {} if instance is None else {"instance": instance}
    runs = sweep.product(key=key, **axes, seed=seeds, descent_steps=descent_steps)
    trained = trainer(
        name, problem, newton.critical_point(), runs, steps=steps, **_training(tolerance)
    )
    return points_of(trained, problem, tolerance=tolerance, bound=bound)


def points_of(
    trained: xr.Dataset, problem: Problem, *, tolerance: float = TOLERANCE, bound: float = BOUND
) -> CriticalPoints:
    """The points from the results of a search.

    Args:
        trained: what the trainer of :func:`search` returned.
        problem: that was searched.
        tolerance: as in the search.
        bound: as in the search.
    """
    flat = trained.point.values
    shapes = jax.eval_shape(lambda key: problem.init(key, problem.data, {}), jax.random.key(0))
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, flat.dtype), shapes))
    rows = flat.reshape(-1, flat.shape[-1])
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf).reshape(*flat.shape[:-1], *leaf.shape[1:]),
        jax.vmap(unravel)(rows),
    )
    norm = np.linalg.norm(flat, axis=-1)
    grad_norm = trained.grad_norm.values
    accepted = (grad_norm < tolerance) & (norm <= bound)
    return CriticalPoints(params, trained.loss.values, grad_norm, norm, accepted)


def polish(
    loss: LossFn,
    params: Params,
    *,
    steps: int = _POLISH_STEPS,
    tolerance: float = TOLERANCE,
    bound: float = BOUND,
) -> CriticalPoints:
    """Goes from near a critical point, of any kind, to the point itself.

    Down in the gradient by Newton steps, see :func:`phenodl.optim.newton.newton_step`; under jit
    and vmap as it is.

    Args:
        loss: maps parameters to a scalar.
        params: near a critical point.
        steps: all of which are made.
        tolerance: norm of the gradient below which the point is accepted.
        bound: norm of the parameters up to which it is.

    Returns:
        One point, without leading axes.

    Raises:
        ValueError: ``tolerance`` is below the precision of the parameters, as the default is in
            single precision: no point would be accepted.

    Example:
        >>> with jax.enable_x64(True):
        ...     point = polish(lambda x: (x[0] - 1) ** 2 - x[1] ** 2, jnp.array([0.9, 0.2]))
        >>> bool(point.accepted), point.params.round(12).tolist()
        (True, [1.0, 0.0])
    """
    precision = float(jnp.finfo(_flat(params).dtype).eps)
    if not tolerance >= precision:
        raise ValueError(
            f"tolerance: expected at least {precision:.2g}, the precision of params, got "
            f"{tolerance:g}; polish in double precision, jax.enable_x64(True)"
        )

    def move(params: Params, _: None) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, params, newton.newton_step(loss, params)), None

    params, _ = jax.lax.scan(move, params, length=steps)
    value, grads = jax.value_and_grad(loss)(params)
    grad_norm, norm = (jnp.linalg.norm(_flat(tree)) for tree in (grads, params))
    return CriticalPoints(params, value, grad_norm, norm, (grad_norm < tolerance) & (norm <= bound))


def require_critical(loss: LossFn, params: Params, tolerance: float = 10 * TOLERANCE) -> None:
    """Refuses a point whose gradient does not vanish. Not for use under jit.

    Args:
        loss: maps parameters to a scalar.
        params: the point.
        tolerance: norm of the gradient up to which the point passes; by default ten times that
            of a search, as an embedded point or another program rounds otherwise.

    Raises:
        ValueError: says the norm of the gradient, and to polish the point first.

    Example:
        >>> require_critical(lambda x: x**2, jnp.array(0.0))
    """
    require_small_gradient(jnp.linalg.norm(_flat(jax.grad(loss)(params))), tolerance)


def require_small_gradient(
    grad_norm: Float[Array | np.ndarray, "*points"], tolerance: float = 10 * TOLERANCE
) -> None:
    """As :func:`require_critical`, from the norms of the gradients of any number of points.

    Example:
        >>> require_small_gradient(np.array([1e-13, 0.0]))
    """
    largest = float(np.max(grad_norm, initial=0.0))
    if not largest <= tolerance:
        raise ValueError(
            f"params: expected a critical point, gradient norm at most {tolerance:g}, got "
            f"{largest:.2g}; polish it first (phenodl.embedding.critical.polish)"
        )


@functools.cache
def _training(tolerance: float) -> Mapping[str, Any]:
    """What equal tolerances share, and so one compilation."""

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        values = {"point": _flat(view.params), "loss": view.objective.loss}
        return state, values | {"grad_norm": jnp.linalg.norm(_flat(view.objective.grads))}

    def well_below(view: View) -> Bool[Array, ""]:
        # Another compiled program rounds otherwise, and must still find the point critical.
        return jnp.linalg.norm(_flat(view.objective.grads)) < tolerance / 20

    return {
        "probes": (Probe(measure, emit="end"),),
        "stop": well_below,
        "layout": Layout(compiler_options=ONCE),
        "chunk": _CHUNK,
    }


def _flat(tree: PyTree) -> Float[Array, " parameters"]:
    return ravel_pytree(tree)[0]
