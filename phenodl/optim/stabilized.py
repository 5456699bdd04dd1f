"""Gradient flow over long times: Runge-Kutta-Chebyshev steps, for plateaus and tails.

While a run lingers at a saddle or creeps along a flat valley, its fast directions are at rest, yet
they limit the step of an explicit method to about 1 / λ_max. The Hessian is symmetric, so stability
matters on the real axis alone, and there s stages of Chebyshev type reach as far as 2/3 s²
(Sommeijer, Shampine, Verwer, J. Comput. Appl. Math. 88, 1998). With s = 16 that is, per gradient,
14 times as far as the classical Runge-Kutta method of fourth order: 167 / 17 against 2.785 / 4.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.polynomial.chebyshev import Chebyshev

from phenodl import runs_last
from phenodl.optim.flow import StepSize
from phenodl.protocol import Hyper, Method, Objective, Params, StepInfo, value_and_grad

_DAMPING = 2 / 13  # keeps the stability polynomial below 1 between the ends of the interval
_NOTCHES = 4  # of the step size per factor of two
_LARGEST_RISE, _LARGEST_FALL = 2 * _NOTCHES, 4 * _NOTCHES  # of the step size, at one step


class Coefficients(NamedTuple):
    """Those of the method with s stages.

    Attributes:
        first: μ̃_1, the share of h of the first stage.
        stages: (s - 1, 5): 1 - μ_j - ν_j, μ_j, ν_j, μ̃_j, γ̃_j for j = 2, ..., s.
        reach: h λ_max up to which a step is stable.
    """

    first: float
    stages: Float[np.ndarray, "stages 5"]
    reach: float


@functools.cache
def chebyshev(step_size: StepSize, stages: int = 16, tolerance: float = 1e-5) -> Method:
    """Gradient flow by Runge-Kutta-Chebyshev steps of second order that control their own error.

    A step whose estimated error exceeds the tolerance is not taken: ``update`` and ``dt`` are 0,
    and a shorter one follows. Errors are relative to the norm of all parameters, so that a
    direction of size s is followed while it is well above ``tolerance`` times that norm. What is
    far smaller must move slowly for other reasons, as the directions that are still to rise do in a
    product of three or more factors.

    Args:
        step_size: a rule that gives 1 / λ for a bound λ ≥ λ_max on the Hessian, such as
            :func:`phenodl.models.deep_factorization.safe_step`.
        stages: gradients per step, at least 2; one more estimates the error.
        tolerance: of the error of one step, relative.

    Returns:
        A method whose state counts notches of the step: h = 2^(notches / 4) ``step_size``.

    Raises:
        ValueError: ``stages`` is less than 2, or ``tolerance`` not positive.

    Example:
        >>> from phenodl.protocol import Objective
        >>> method = chebyshev(lambda objective, params, hyper: jnp.array(0.25), tolerance=1e-3)
        >>> theta = jnp.array(1.0)
        >>> objective = Objective(lambda x: 0.5 * x**2, jnp.array(0.5), grads=jnp.array(1.0))
        >>> theta, notches, info = method.step(objective, theta, method.init(theta, {}), {})
        >>> abs(float(theta) - float(jnp.exp(-info.dt))) < 1e-3
        True
    """
    if stages < 2:
        raise ValueError(f"stages must be at least 2, got {stages}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    scheme = coefficients(stages)
    highest = int(np.floor(_NOTCHES * np.log2(scheme.reach)))

    def init(params: Params, hyper: Hyper) -> Int[Array, ""]:
        del params, hyper
        return jnp.zeros((), jnp.int32)

    def step(objective: Objective, params: Params, state: Int[Array, "*runs"], hyper: Hyper):
        unit = jnp.asarray(step_size(objective, params, hyper))
        h = unit * jnp.exp2(state.astype(unit.dtype) / _NOTCHES)
        end, slope = _stages(scheme, objective, params, h)
        update = jax.tree.map(jnp.subtract, end, params)
        estimate = jax.tree.map(
            lambda moved, a, b: -0.8 * moved - runs_last.scale(0.4 * h, a + b),
            update,
            objective.grads,
            slope,
        )
        error = jnp.sqrt(
            runs_last.inner(estimate, estimate, h.ndim) / runs_last.inner(params, params, h.ndim)
        )
        error = error / tolerance
        accepted = error <= 1  # false for NaN

        tiny = jnp.finfo(error.dtype).tiny
        change = jnp.floor(_NOTCHES * jnp.log2(0.8 * jnp.maximum(error, tiny) ** (-1 / 3)))
        change = jnp.where(jnp.isfinite(error), change, -_LARGEST_FALL)
        change = jnp.clip(change, -_LARGEST_FALL, _LARGEST_RISE).astype(state.dtype)
        update = jax.tree.map(lambda leaf: jnp.where(accepted, leaf, 0.0), update)
        notches = jnp.minimum(state + change, highest)
        dt = jnp.where(accepted, h, 0.0)
        return jax.tree.map(jnp.add, params, update), notches, StepInfo(update, dt)

    return Method(init, step)


@functools.cache
def coefficients(stages: int) -> Coefficients:
    """The coefficients of the method with a number of stages (1998, section 2).

    Example:
        >>> round(coefficients(16).reach)
        167
    """
    w0 = 1 + _DAMPING / stages**2
    polynomials = [Chebyshev.basis(degree) for degree in range(stages + 1)]
    value, first, second = (
        np.array([polynomial.deriv(order)(w0) for polynomial in polynomials]) for order in range(3)
    )
    w1 = first[-1] / second[-1]
    b = np.empty(stages + 1)
    b[2:] = second[2:] / first[2:] ** 2
    b[:2] = b[2]
    a = 1 - b * value
    j = np.arange(2, stages + 1)
    mu, nu = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2]
    mu_tilde = 2 * b[j] * w1 / b[j - 1]
    rows = np.stack([1 - mu - nu, mu, nu, mu_tilde, -a[j - 1] * mu_tilde], axis=1)
    return Coefficients(float(b[1] * w1), rows, float((1 + w0) / w1))


def _stages(
    scheme: Coefficients, objective: Objective, params: Params, h: Float[Array, "*runs"]
) -> tuple[Params, Params]:
    """The end of a step of length h, and the gradient there."""
    evaluate = value_and_grad(objective.function)
    start = objective.grads

    def stage(points: tuple[Params, Params], row: Float[Array, "5"]):
        before, last = points
        _, slope = evaluate(last)

        def combine(origin: Array, last: Array, before: Array, slope: Array, first: Array) -> Array:
            moved = runs_last.scale(h, row[3] * slope + row[4] * first)
            return row[0] * origin + row[1] * last + row[2] * before - moved

        return (last, jax.tree.map(combine, params, last, before, slope, start)), None

    first = runs_last.add(params, -scheme.first * h, start)
    rows = jnp.asarray(scheme.stages, h.dtype)
    (_, end), _ = jax.lax.scan(stage, (params, first), rows)
    return end, evaluate(end)[1]
