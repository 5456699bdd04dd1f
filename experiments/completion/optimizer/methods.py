"""The optimizers, each with its settings as axes of a sweep: one compiled program per method."""

import functools
from typing import Any

import optax
from jaxtyping import Array, Float

from phenodl import training
from phenodl.completion import probes
from phenodl.models import factorization
from phenodl.optim.flow import gradient_descent as descent
from phenodl.optim.stabilized import chebyshev
from phenodl.protocol import Hyper, Method, Objective


def flow() -> Method:
    """Gradient flow, the reference.

    W differs from that of classical Runge-Kutta steps of half the safe step, in relation to its
    norm, by 6e-6 in the median and 1.1e-4 at the 90 % quantile of the runs.
    """
    return chebyshev(factorization.safe_step(), stages=32, tolerance=1e-6)


@functools.cache
def gradient_descent() -> Method:
    """With ``hyper["factor"]`` times the safe step, adapted at every step."""
    safe = factorization.safe_step()

    def step_size(
        objective: Objective, factors: factorization.Factors, hyper: Hyper
    ) -> Float[Array, "*runs"]:
        return hyper["factor"] * safe(objective, factors, hyper)

    return descent(step_size)


@functools.cache
def heavy_ball() -> Method:
    """With ``hyper["momentum"]``; 0 is gradient descent with a constant learning rate.

    In the limit of small steps the ball moves as the flow does, at the rate
    ``learning_rate`` / (1 - momentum). ``hyper["learning_rate"]`` is that rate, so that optimizers
    are compared at equal speed.
    """

    def transformation(hyper: Hyper) -> optax.GradientTransformation:
        momentum = hyper["momentum"]
        return optax.sgd(hyper["learning_rate"] * (1 - momentum), momentum=momentum)

    return training.from_optax(transformation)


@functools.cache
def adam() -> Method:
    """With ``hyper["learning_rate"]`` and the usual decay rates."""
    return training.from_optax(lambda hyper: optax.adam(hyper["learning_rate"]))


def watched(method: Method, watch: Any, tolerance: float) -> dict[str, Any]:
    """Arguments of a training that records the solution and ends when the data are fitted.

    Args:
        method: how the parameters move.
        watch: the module whose ``mean_loss`` suits the problem's batches.
        tolerance: loss per observed entry at which a run ends.
    """
    return {
        "method": method,
        "probes": (probes.solution(mean_loss=watch.mean_loss),),
        "stop": probes.fitted(tolerance, watch.mean_loss),
        "layout": factorization.small_layout(),
    }
