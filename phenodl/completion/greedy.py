"""Greedy low-rank learning (GLRL): the limit that gradient flow is compared with.

Gradient flow from an infinitesimal start learns one latent direction after the other, if it follows
greedy low-rank learning (Li, Luo, Lyu, ICLR 2021): from the best fit so far, add a rank-one start
along the top singular pair of the negative gradient, let the flow become stationary, repeat. On
disconnected data it does not: each new direction is orthogonal to all others in the latent space,
where those of the flow are as random as its start.
"""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from phenodl import sweep
from phenodl.completion import probes
from phenodl.completion.low_rank_fit import observed
from phenodl.models import factorization
from phenodl.models.factorization import Factors, given_start
from phenodl.optim import flow
from phenodl.precision import require_double_precision
from phenodl.protocol import Problem, Stop, View
from phenodl.trainer import Trainer, in_memory

TOLERANCE = 1e-13
"""Norm of the gradient at which a flow of data of order one counts as stationary."""

_SQUARINGS = 60  # up to the power 2^60, in which singular values separate that differ by rounding


class GreedyPath(NamedTuple):
    """What greedy low-rank learning found at each of its stages, ranks 1, 2, ...

    Attributes:
        factors: A (instances, stages, rows, inner) and B (instances, stages, inner, columns); the
            latent columns that a stage has not come to are exactly zero.
        mean_loss: per observed entry.
        stationary: whether the gradient vanished within the steps.
    """

    factors: Factors
    mean_loss: Float[np.ndarray, "instances stages"]
    stationary: Bool[np.ndarray, "instances stages"]

    @property
    def W(self) -> Float[np.ndarray, "instances stages rows columns"]:
        """The learned matrices."""
        return np.asarray(self.factors.A) @ np.asarray(self.factors.B)


def greedy_low_rank(
    target: Float[ArrayLike, "instances rows columns"],
    mask: Bool[ArrayLike, "instances rows columns"],
    *,
    stages: int | None = None,
    size: float = 1e-8,
    tolerance: float = TOLERANCE,
    steps: int = 20_000,
    trainer: Trainer = in_memory,
) -> GreedyPath:
    """Greedy low-rank learning with the squared loss, many instances at once, in double precision.

    Latent columns that are not yet in use are exactly zero and stay so. Each stage thus keeps to
    its manifold Ω_k, and all of them share one compiled step.

    Args:
        target: matrices with entries of order one; unobserved entries are not read.
        mask: true where an entry is observed.
        stages: ranks to visit; by default the smaller side of the matrices.
        size: norm of the columns that a stage adds. An instance whose loss per entry is at most
            size² is fitted, and gets none.
        tolerance: norm of the gradient at which a stage ends. It must be far below ``size``: a
            stage starts with ``size`` times the top singular value of the gradient in W.
        steps: Runge-Kutta steps of a stage, at most.
        trainer: trains the stages, named ``greedy-rank1``, ``greedy-rank2``, ..., with the
            arguments of :func:`phenodl.training.train`, which it replaces. If it stores what it
            trains, :func:`path_of` gives the path again.

    Raises:
        ValueError: the shapes disagree, an observed entry is not finite, ``stages`` is out of
            range, or precision is single.

    Example:
        >>> with jax.enable_x64(True):
        ...     path = greedy_low_rank(np.diag([2.0, 1.0])[None], np.ones((1, 2, 2)), stages=1)
        >>> (path.W[0, 0] + 0.0).round(9).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    target, mask = observed(target, mask)
    count, rows, columns = target.shape
    inner = min(rows, columns)
    depth = inner if stages is None else stages
    if not 1 <= depth <= inner:
        raise ValueError(f"stages must be in [1, {inner}], got {stages}")
    require_double_precision("greedy_low_rank")

    problem, training = flow_from_start(tolerance)
    factors = Factors(jnp.zeros((count, rows, inner)), jnp.zeros((count, inner, columns)))
    found = []
    for stage in range(depth):
        start = _add_latent(factors, target, mask, np.int32(stage), size)
        runs = sweep.product(
            key=jax.random.key(0), instance={"target": target, "mask": mask, "start": start}
        )
        name = f"greedy-rank{stage + 1}"
        trained = trainer(name, problem, runs=runs, steps=steps, **training)
        factors = trained_factors(trained)
        found.append(trained)
    return path_of(found)


def path_of(stages: Sequence[xr.Dataset]) -> GreedyPath:
    """The path from the results of its stages, in their order."""
    factors = [trained_factors(stage) for stage in stages]
    return GreedyPath(
        factors=jax.tree.map(lambda *matrices: np.stack(matrices, axis=1), *factors),
        mean_loss=np.stack([stage.mean_loss.values for stage in stages], axis=1),
        stationary=np.stack([stage.stopped_at.values >= 0 for stage in stages], axis=1),
    )


@functools.cache
def flow_from_start(tolerance: float, /) -> tuple[Problem, Mapping[str, Any]]:
    """Gradient flow of the squared loss from given parameters until it is stationary.

    Each instance has its ``start`` beside ``target`` and ``mask``, see
    :func:`phenodl.models.factorization.given_start`. What :func:`phenodl.completion.probes.factors`
    measures is recorded. Equal tolerances give the same objects, and so a shared compilation.

    Args:
        tolerance: norm of the gradient at which a run ends.

    Returns:
        The problem, and the arguments of a training but for its runs and steps.
    """
    training = {
        "method": flow.rk4(factorization.safe_step()),
        "probes": (probes.factors(),),
        "stop": stationary(tolerance),
        "layout": factorization.small_layout(),
    }
    return factorization.problem()._replace(init=given_start), MappingProxyType(training)


def stationary(tolerance: float) -> Stop:
    """Ends a run where the norm of its gradient is at most ``tolerance``.

    Example:
        >>> stop = stationary(1e-13)
    """

    def stop(view: View) -> Bool[Array, "*runs"]:
        a, b = view.objective.grads
        return (a * a).sum((0, 1)) + (b * b).sum((0, 1)) <= tolerance**2

    return stop


def trained_factors(trained: xr.Dataset) -> Factors:
    """The last A and B of every run that :func:`flow_from_start` has trained."""
    return Factors(*(jnp.asarray(trained[name].values) for name in ("A", "B")))


def top_singular_pair(
    matrix: Float[Array, "rows columns"],
) -> tuple[Float[Array, " rows"], Float[Array, " columns"]]:
    """Unit vectors u, v with u vᵀ in the direction of the largest singular value.

    Repeated squaring of GᵀG, which keeps exact zeros: if G is block diagonal up to the order of its
    rows and columns, u and v vanish exactly outside of one block, where those of a general
    decomposition are of the size of rounding. The pair of the zero matrix is zero.

    Example:
        >>> u, v = top_singular_pair(jnp.diag(jnp.array([1.0, -3.0])))
        >>> jnp.abs(u).tolist(), jnp.abs(v).tolist(), float(u[1] * v[1])
        ([0.0, 1.0], [0.0, 1.0], -1.0)
    """

    def normalise(gram: Array) -> Array:
        size = jnp.trace(gram)
        return gram / jnp.where(size > 0, size, 1.0)

    scaled = matrix / jnp.maximum(jnp.abs(matrix).max(), jnp.finfo(matrix.dtype).tiny)
    gram = jax.lax.fori_loop(
        0, _SQUARINGS, lambda _, gram: normalise(gram @ gram), normalise(scaled.T @ scaled)
    )
    right = _unit(gram[:, jnp.argmax(jnp.diagonal(gram))])
    return _unit(scaled @ right), right


def _unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    norm = jnp.linalg.norm(vector)
    return vector / jnp.where(norm > 0, norm, 1.0)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, 0, None, None))
def _add_latent(
    factors: Factors,
    target: Float[Array, "rows columns"],
    mask: Bool[Array, "rows columns"],
    latent: Int[Array, ""],
    size: Float[Array, ""],
) -> Factors:
    """Sets a latent column along the top singular pair of -∂L/∂W, unless the data are fitted."""
    data = {"target": target, "mask": mask}
    left, right = top_singular_pair(-factorization.residual(factors, data))
    loss = factorization.mean_loss(factorization.squared_loss(factors, data), mask)
    length = jnp.where(loss <= size**2, 0.0, size)
    return Factors(
        factors.A.at[:, latent].set(length * left), factors.B.at[latent].set(length * right)
    )
