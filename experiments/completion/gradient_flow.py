"""Gradient flow of small factorizations, as the experiments of this study train it.

One room for all of them: trainings of one process that ask for the same share a compiled step.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from phenodl.completion import gauge, probes
from phenodl.completion.polish import polish
from phenodl.models import factorization
from phenodl.optim import flow

CONVERGED = 1e-12
"""Loss per observed entry up to which a solution is trusted: its entries are right to 1e-6."""


@functools.cache
def training(
    tolerance: float = 1e-24,
    polish_every: int | None = 500,
) -> Mapping[str, Any]:
    """Arguments of a training by Runge-Kutta steps that records the solution when it is reached.

    Args:
        tolerance: loss per observed entry at which a run ends.
        polish_every: steps between two attempts to end a tail; None leaves all to the flow.
    """
    transforms = [gauge.graded()]
    if polish_every is not None:
        transforms.append(polish(polish_every))
    arguments = {
        "method": flow.rk4(factorization.safe_step()),
        "probes": (probes.solution(),),
        "transforms": tuple(transforms),
        "stop": probes.fitted(tolerance),
        "layout": factorization.small_layout(),
    }
    return MappingProxyType(arguments)
