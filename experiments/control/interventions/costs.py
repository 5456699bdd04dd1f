"""What a step of each method takes, in units of plain Adam's step on the same task.

Medians of ``python -m benchmarks control``, all methods side by side on two cores. They are stated
here, not measured in the run, so that the tables can be repeated. Rivals cost what Adam costs.
"""

from experiments.control.interventions.config import CONTROLLERS
from experiments.control.names import DEEP, DIGITS, FREQUENT, LANGUAGE, SEQUENCE, SINE

SECANT = {SINE: 1.24, FREQUENT: 1.18, DEEP: 1.18, DIGITS: 1.22, SEQUENCE: 1.33, LANGUAGE: 1.33}
"""Of controllers that are alarmed by the secant curvature."""

EXACT = {SINE: 1.5, FREQUENT: 1.5, DEEP: 1.5, DIGITS: 2.0, SEQUENCE: 2.2, LANGUAGE: 2.2}
"""Of those that are alarmed by a second derivative."""


def cost(task: str, name: str) -> float:
    """Of one step of a method."""
    if name not in CONTROLLERS:
        return 1.0
    return (EXACT if name.endswith("_exact") else SECANT)[task]
