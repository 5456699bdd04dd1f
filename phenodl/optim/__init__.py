"""Optimizers as the theory sees them: views of optax's Adam, gradient flow, Newton's method.

Beside them those that clip for the sake of spikes and that optax lacks.
"""

from phenodl.optim.adam import (
    Adam,
    adam_state,
    current_learning_rate,
    effective_learning_rate,
    first_moment,
    from_hyper,
    gradient_ratio,
    injected,
    is_masked,
    layer_sums,
    momentum_factor,
    preconditioner,
    second_moment,
    settings_of,
    stability_threshold,
    with_second_moment,
)
from phenodl.optim.clipping import spam, stable_adamw
from phenodl.optim.flow import StepCounts, bold_driver, gradient_descent, rk4
from phenodl.optim.newton import critical_point
from phenodl.optim.stabilized import chebyshev

__all__ = [
    "Adam",
    "StepCounts",
    "adam_state",
    "bold_driver",
    "chebyshev",
    "critical_point",
    "current_learning_rate",
    "effective_learning_rate",
    "first_moment",
    "from_hyper",
    "gradient_descent",
    "gradient_ratio",
    "injected",
    "is_masked",
    "layer_sums",
    "momentum_factor",
    "preconditioner",
    "rk4",
    "second_moment",
    "settings_of",
    "spam",
    "stability_threshold",
    "stable_adamw",
    "with_second_moment",
]
