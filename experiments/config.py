"""What the configurations of several experiments share. Imports neither jax nor NumPy.

A configuration checks itself: ``__post_init__`` raises a ValueError that starts with the field's
name, in which the command line recognises the flag (``b2 must be ...`` becomes
``--optimizer.b2 must be ...``).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


def require(condition: bool, field: str, requirement: str, value: object) -> None:
    """Raises a ValueError, ``field must be requirement, got value``, unless the condition is met.

    Example:
        >>> require(0 < 1, "seeds", "at least 1", 1)
    """
    if not condition:
        raise ValueError(f"{field} must be {requirement}, got {value}")


def require_count(field: str, value: int, least: int = 1) -> None:
    """A number of things (seeds, steps, points) is at least 1, or more, and fits into 32 bits."""
    require(value >= least, field, f"at least {least}", value)
    require(value < 2**31, field, "below 2**31", value)


def require_seed(field: str, value: int) -> None:
    """A seed is what a 32-bit number can hold, without its sign."""
    require(0 <= value < 2**31, field, "in [0, 2**31)", value)


def require_positive(field: str, value: float) -> None:
    """A rate, a size, a scale is finite and positive."""
    require(math.isfinite(value) and value > 0, field, "finite and positive", value)


def require_each(field: str, values: Iterable[float], low: float, high: float) -> None:
    """Every one of several numbers lies in [low, high), and there is at least one."""
    values = tuple(values)
    require(len(values) > 0, field, "at least one number", "none")
    for value in values:
        require(low <= value < high, field, f"in [{low:g}, {high:g})", value)


@dataclass(frozen=True)
class Adam:
    """Adam's hyper-parameters."""

    learning_rate: float = 1e-3
    """Step size η."""
    b1: float = 0.9
    """Decay per step of the first moment, β1."""
    b2: float = 0.999
    """Decay per step of the second moment, β2."""
    eps: float = 1e-8
    """Added to the square root of the second moment, ε."""
    weight_decay: float = 0.0
    """Decoupled weight decay, per unit of learning rate."""

    def __post_init__(self):
        require_positive("learning_rate", self.learning_rate)
        require(0 <= self.b1 < 1, "b1", "in [0, 1)", self.b1)
        require(0 <= self.b2 < 1, "b2", "in [0, 1)", self.b2)
        require(
            math.isfinite(self.eps) and self.eps >= 0, "eps", "finite and not negative", self.eps
        )
        decay = self.weight_decay
        require(
            math.isfinite(decay) and decay >= 0, "weight_decay", "finite and not negative", decay
        )
