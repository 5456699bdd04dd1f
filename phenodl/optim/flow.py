"""Gradient flow dθ/dt = -∇L(θ) as a method of the engine: gradient descent and Runge-Kutta steps.

The step size is a rule, a function of the current point, so that each run of a batch keeps its own
time. One run (scalar step sizes) and a block of runs along the last axis of every array (a vector
of step sizes, ``Layout(run_axis=-1)``) go through the same code. ``StepInfo.dt`` is flow time.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from phenodl.protocol import Hyper, Method, Objective, Params, StepInfo, value_and_grad

StepSize = Callable[[Objective, Params, Hyper], Float[Array, "*runs"]]
"""``step_size(objective, params, hyper) -> h``, one positive number per run."""


def gradient_descent(step_size: StepSize) -> Method:
    """Gradient descent, θ ← θ - h ∇L(θ): the flow to first order in h.

    Args:
        step_size: the rule for h.

    Example:
        >>> from phenodl import protocol
        >>> objective = protocol.Objective(jnp.square, jnp.array(1.0), grads=jnp.array(2.0))
        >>> method = gradient_descent(lambda objective, params, hyper: hyper["step_size"])
        >>> params, _, info = method.step(objective, jnp.array(1.0), (), {"step_size": 0.25})
        >>> float(params), float(info.update)
        (0.5, -0.5)
    """

    def slope(objective: Objective, params: Params, h: Float[Array, "*runs"]) -> Params:
        del params, h
        return objective.grads

    return _method(step_size, slope)


def rk4(step_size: StepSize) -> Method:
    """The classical Runge-Kutta method of fourth order; four gradients a step.

    The first is the one that the engine has evaluated already. Its region of stability reaches to
    h λ_max = 2.785 on a quadratic.

    Args:
        step_size: the rule for h, evaluated once at the start of the step.

    Example:
        >>> from phenodl.models import factorization
        >>> method = rk4(factorization.safe_step())
    """

    def slope(objective: Objective, params: Params, h: Float[Array, "*runs"]) -> Params:
        evaluate = value_and_grad(objective.function)
        first = objective.grads
        _, second = evaluate(_add(params, -h / 2, first))
        _, third = evaluate(_add(params, -h / 2, second))
        _, fourth = evaluate(_add(params, -h, third))
        return jax.tree.map(
            lambda a, b, c, d: (a + 2 * (b + c) + d) / 6, first, second, third, fourth
        )

    return _method(step_size, slope)


def _method(
    step_size: StepSize, slope: Callable[[Objective, Params, Float[Array, "*runs"]], Params]
) -> Method:
    """A one-step method θ ← θ - h s, with the slope s averaged over the step."""

    def init(params: Params, hyper: Hyper) -> PyTree:
        del params, hyper
        return ()

    def step(objective: Objective, params: Params, state: PyTree, hyper: Hyper):
        h = jnp.asarray(step_size(objective, params, hyper))
        average = slope(objective, params, h)
        update = jax.tree.map(lambda leaf: _scale(-h, leaf), average)
        return jax.tree.map(jnp.add, params, update), state, StepInfo(update, h)

    return Method(init, step)


def _add(params: Params, h: Float[Array, "*runs"], direction: Params) -> Params:
    return jax.tree.map(lambda leaf, slope: leaf + _scale(h, slope), params, direction)


def _scale(h: Float[Array, "*runs"], leaf: Float[Array, "..."]) -> Float[Array, "..."]:
    """Each run's number times its part of an array that has the runs last."""
    return h.reshape((1,) * (leaf.ndim - h.ndim) + h.shape) * leaf
