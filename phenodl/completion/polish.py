"""Polish: ends the long tail of a gradient flow once the data are nearly fitted.

Near a solution the flow moves almost straight to the nearest exact fit, ever more slowly. The
polish goes there at once, along dθ/dτ = -J⁺ r₀, on which the residual shrinks from r₀ at τ = 0 to
zero at τ = 1. Like the flow, this path moves by Jᵀ y and so conserves AᵀA - BBᵀ for every component
of the data; a plain Gauss-Newton step conserves it to first order only, and the nuclear norm with
it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from phenodl import runs_last
from phenodl.models.factorization import (
    Factors,
    Observations,
    imbalance,
    mean_loss,
    residual,
    squared_loss,
)
from phenodl.protocol import Transform

_LEFT = 1e-10
"""Share of the loss that may be left at the end of the path."""
_DRIFT = 3e-13
"""Change of AᵀA - BBᵀ on the way that is allowed for, relative to |A|² + |B|²."""
_STAGES: Any = (np.array([0, 1 / 2, 1 / 2, 1]), np.array([1, 2, 2, 1]) / 6)  # offsets, weights


@functools.cache
def polish(
    every: int = 500,
    below: float = 1e-8,
    *,
    iterations: int = 1,
    products: int = 24,
) -> Transform:
    """Moves runs whose loss is small already to the exact fit next to them.

    One Runge-Kutta step along the path, then Gauss-Newton steps of least norm for what is left.

    Loss and residual are those of the squared error, whatever the problem's own loss may be: for
    a loss without a minimum at the exact fit, such as the logistic one, there is nothing to polish.

    A run takes the result only if the step has followed the path, as the loss at its end and what
    the path conserves tell. A run at a plateau close to a fit, or in a valley that bends, goes on
    with the flow.

    Args:
        every: steps between two attempts.
        below: loss per observed entry, half the mean square of the residual, from which a run is
            polished. From 1e-6 the flow may still have a choice to make.
        iterations: Gauss-Newton steps of one attempt, after the path.
        products: conjugate gradient steps in each application of J⁺.

    Example:
        >>> polish(every=500).every
        500
    """

    def apply(params: Factors, batch: Observations) -> Factors:
        def loss(params: Factors) -> Float[Array, "*runs"]:
            return mean_loss(squared_loss(params, batch), batch["mask"])

        def direction(at: Factors, gap: Array) -> Factors:
            """-J⁺ gap."""
            _, push_forward = jax.linearize(lambda params: residual(params, batch), at)
            pull_back = jax.linear_transpose(push_forward, at)
            return _least_norm(push_forward, lambda each: pull_back(each)[0], -gap, products)

        def follow(params: Factors) -> Factors:
            """The end of the path, by one step of the classical Runge-Kutta method."""
            gap = residual(params, batch)

            def stage(slopes: tuple[Factors, Factors], place: tuple[Array, Array]):
                last, average = slopes
                offset, weight = place
                slope = direction(runs_last.add(params, offset, last), gap)
                return (slope, runs_last.add(average, weight, slope)), None

            none = jax.tree.map(jnp.zeros_like, params)
            (_, average), _ = jax.lax.scan(stage, (none, none), _STAGES)
            return jax.tree.map(jnp.add, params, average)

        def newton(_: int, at: Factors) -> Factors:
            return jax.tree.map(jnp.add, at, direction(at, residual(at, batch)))

        def refine(params: Factors) -> Factors:
            end = follow(params)
            fit = jax.lax.fori_loop(0, iterations, newton, end)
            left = jnp.maximum(loss(end), loss(fit))
            drift = jnp.abs(imbalance(fit) - imbalance(params)).max((0, 1))
            size = runs_last.inner(fit, fit, before.ndim)
            accepted = (left <= _LEFT * before) & (drift <= _DRIFT * size)
            return runs_last.where(ready & accepted, fit, params)

        before = loss(params)
        ready = (before <= below) & (before > 0)
        return jax.lax.cond(ready.any(), refine, lambda same: same, params)

    return Transform(every, apply)


def _least_norm(
    push_forward: Callable[[PyTree], Array],
    pull_back: Callable[[Array], PyTree],
    right: Float[Array, "rows columns *runs"],
    products: int,
) -> PyTree:
    """The least-norm minimiser of |J x - right|² by conjugate gradients on J (CGLS).

    Started from zero it stays in the range of Jᵀ, where the solution of least norm lies (Björck,
    Numerical Methods for Least Squares Problems, 1996, section 7.4). A run whose gradient has
    vanished stands still.
    """
    axes = right.ndim - 2

    def step(_: int, state: tuple) -> tuple:
        x, gap, direction, size = state
        image = push_forward(direction)
        length = _ratio(size, runs_last.inner(image, image, axes))
        x, gap = runs_last.add(x, length, direction), runs_last.add(gap, -length, image)
        gradient = pull_back(gap)
        new_size = runs_last.inner(gradient, gradient, axes)
        return x, gap, runs_last.add(gradient, _ratio(new_size, size), direction), new_size

    gradient = pull_back(right)
    x = jax.tree.map(jnp.zeros_like, gradient)
    start = (x, right, gradient, runs_last.inner(gradient, gradient, axes))
    return jax.lax.fori_loop(0, products, step, start)[0]


def _ratio(a: Float[Array, "*runs"], b: Float[Array, "*runs"]) -> Float[Array, "*runs"]:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
