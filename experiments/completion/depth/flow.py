"""Gradient flow at any depth: how the runs are trained, and what they record."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxtyping import Array

from phenodl.completion import probes
from phenodl.models import deep_factorization, factorization
from phenodl.optim.stabilized import chebyshev
from phenodl.protocol import Probe, View

NAMES = {2: "two-factors", 3: "three-factors", 4: "four-factors"}
"""Of the trainings, by depth."""
RECORD_EVERY = 5
"""Steps between two points of the recorded path."""


@functools.cache
def training(tolerance: float) -> Mapping[str, Any]:
    """Arguments of a training by Runge-Kutta-Chebyshev steps.

    At depth 3 and more a run waits at each plateau for times of order std^-(L-2), and that is
    where a classical step, bound by the directions that are at rest, gets nowhere.

    Args:
        tolerance: loss per observed entry at which a run ends.
    """
    arguments = {
        "method": chebyshev(deep_factorization.safe_step(), stages=64, tolerance=1e-5),
        "probes": (probes.solution(deep_factorization.product), path()),
        "stop": probes.fitted(tolerance),
        "layout": factorization.small_layout(),
    }
    return MappingProxyType(arguments)


@functools.cache
def path() -> Probe:
    """Records W as ``path``, and the flow ``time``, now and then."""

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {"path": deep_factorization.product(view.params), "time": view.time}

    return Probe(measure, every=RECORD_EVERY)
