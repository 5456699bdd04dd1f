"""What a step of each method takes, in units of plain Adam's step on the same task.

Medians of ``python -m benchmarks --only control``, all methods side by side on one core. They are
stated here, not measured in the run, so that the tables can be repeated. Rivals count as Adam: they
cost up to a tenth more.
"""

from experiments.control.interventions.config import CONTROLLERS
from experiments.control.names import DEEP, DIGITS, FREQUENT, LANGUAGE, SEQUENCE, SINE

SECANT = {SINE: 1.22, FREQUENT: 1.21, DEEP: 1.27, DIGITS: 1.14, SEQUENCE: 1.24, LANGUAGE: 1.08}
"""Of controllers that are alarmed by the secant curvature."""

EXACT = {SINE: 1.46, FREQUENT: 1.68, DEEP: 1.57, DIGITS: 1.88, SEQUENCE: 2.22, LANGUAGE: 2.39}
"""Of those that are alarmed by a second derivative."""


def cost(task: str, name: str) -> float:
    """Of one step of a method."""
    if name not in CONTROLLERS:
        return 1.0
    return (EXACT if name.endswith("_exact") else SECANT)[task]
