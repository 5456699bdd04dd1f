"""Gradient flow dθ/dt = -∇L(θ) as a method of the engine: gradient descent and Runge-Kutta steps.

The step size is a rule, a function of the current point, so that each run of a batch keeps its own
time. Equal arguments give the same method, so that trainings of one process share a compiled step.

One run (scalar step sizes) and a block of runs along the last axis of every array (a vector of step
sizes, ``Layout(run_axis=-1)``) go through the same code. ``StepInfo.dt`` is flow time.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from phenodl import runs_last
from phenodl.protocol import Hyper, Method, Objective, Params, StepInfo, value_and_grad

StepSize = Callable[[Objective, Params, Hyper], Float[Array, "*runs"]]
"""``step_size(objective, params, hyper) -> h``, one positive number per run."""


@functools.cache
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


@functools.cache
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
        _, second = evaluate(runs_last.add(params, -h / 2, first))
        _, third = evaluate(runs_last.add(params, -h / 2, second))
        _, fourth = evaluate(runs_last.add(params, -h, third))
        return jax.tree.map(
            lambda a, b, c, d: (a + 2 * (b + c) + d) / 6, first, second, third, fourth
        )

    return _method(step_size, slope)


class StepCounts(NamedTuple):
    """The state of :func:`bold_driver`: how many of its steps were accepted, how many rejected."""

    accepted: Int[Array, "*runs"]
    rejected: Int[Array, "*runs"]


@functools.cache
def bold_driver(initial_step: float, grow: float = 1.05, shrink: float = 0.5) -> Method:
    """Gradient descent that finds its step size: bolder after a success, halved after a rise.

    A step that does not raise the loss is taken, and the next one is ``grow`` times as long. One
    that raises it, or makes it NaN or infinite, is not: the run stays where it is, its flow time
    stands still (``update`` and ``dt`` are 0), and the next step is ``shrink`` times as long. The
    rule needs no bound on the curvature, which is what large matrices want: there
    :func:`phenodl.models.factorization.safe_step` is many times too careful. It goes near the limit
    of stability, so that it follows the flow only roughly (Battiti, Neural Computation 4, 1992).

    The loss at the new point is evaluated before the step is taken, on the same batch. That is one
    forward pass more than a gradient, and probes, stopping rules and the end of training see
    accepted points alone, at which the loss of a fixed batch never rises.

    Args:
        initial_step: h of the first step, in units of flow time.
        grow: factor on h after each accepted step, at least 1.
        shrink: factor on h after each rejected step, between 0 and 1.

    Returns:
        A method whose state is :class:`StepCounts`; h = initial_step growᵃ shrinkʳ.

    Raises:
        ValueError: ``initial_step`` is not finite and positive, or a factor is out of its range.

    Example:
        >>> from phenodl.protocol import Objective
        >>> method = bold_driver(0.75)
        >>> theta = jnp.array(1.0)
        >>> objective = Objective(lambda x: 2 * x**2, jnp.array(2.0), grads=jnp.array(4.0))
        >>> state = method.init(theta, {})
        >>> theta, state, info = method.step(objective, theta, state, {})  # to -2: a rise
        >>> float(theta), int(state.rejected), float(info.dt)
        (1.0, 1, 0.0)
        >>> theta, state, info = method.step(objective, theta, state, {})  # to -0.5
        >>> float(theta), int(state.accepted), float(info.dt)
        (-0.5, 1, 0.375)
    """
    if not (math.isfinite(initial_step) and initial_step > 0):
        raise ValueError(f"initial_step must be finite and positive, got {initial_step}")
    if not (math.isfinite(grow) and grow >= 1):
        raise ValueError(f"grow must be finite and at least 1, got {grow}")
    if not 0 < shrink < 1:
        raise ValueError(f"shrink must be between 0 and 1, got {shrink}")

    def init(params: Params, hyper: Hyper) -> StepCounts:
        # Whole numbers, which the engine gives to every run of a block alike.
        del params, hyper
        return StepCounts(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def step(objective: Objective, params: Params, state: StepCounts, hyper: Hyper):
        del hyper
        loss, grads = objective.loss, objective.grads
        accepted, rejected = (count.astype(loss.dtype) for count in state)
        h = initial_step * jnp.exp(accepted * math.log(grow) + rejected * math.log(shrink))
        lower = objective.function(runs_last.add(params, -h, grads)) <= loss  # false for NaN
        dt = jnp.where(lower, h, 0.0)
        update = jax.tree.map(lambda leaf: runs_last.scale(-dt, leaf), grads)
        counts = StepCounts(
            state.accepted + lower.astype(jnp.int32), state.rejected + (~lower).astype(jnp.int32)
        )
        return jax.tree.map(jnp.add, params, update), counts, StepInfo(update, dt)

    return Method(init, step)


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
        update = jax.tree.map(lambda leaf: runs_last.scale(-h, leaf), average)
        return jax.tree.map(jnp.add, params, update), state, StepInfo(update, h)

    return Method(init, step)
