"""Gradient flow of matrix completion on one core, in float64: what the memory layout is worth.

Every side takes the same steps of the same runs: W = A B, the safe step of each run, gradient
descent or the classical Runge-Kutta method. The engine takes them as a user's training does.
"""

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import completion_baselines as baselines
from benchmarks import timing
from benchmarks.timing import Row, Side
from phenodl import sweep
from phenodl.completion import gauge
from phenodl.models import factorization
from phenodl.optim import flow
from phenodl.protocol import Layout, Method, Transform
from phenodl.sweep import Runs

GD, RK4, GAUGE = "gradient descent", "Runge-Kutta", "Runge-Kutta, gauge every 8 steps"
MATMUL, NUMPY, STACKED = "vmapped matmul", "NumPy, run by run", "NumPy, all runs at once"
INIT_STD = 1e-3


ROWS = {
    4: [
        Row(GD, GD),
        Row(f"{GD}, {MATMUL}", GD, "≥ 28"),
        Row(f"{GD}, {NUMPY}", GD, "≥ 400"),
        Row(RK4, RK4),
        Row(f"{RK4}, {MATMUL}", RK4, "≥ 22"),
        Row(f"{RK4}, {NUMPY}", RK4, "≥ 400"),
        Row(GAUGE, RK4, "≤ 1.3"),
        Row(f"{RK4}, {NUMPY}", GAUGE, "≥ 400"),
    ],
    8: [
        Row(GD, GD),
        Row(f"{GD}, {MATMUL}", GD, "≥ 1.8"),
        Row(RK4, RK4),
        Row(f"{RK4}, {MATMUL}", RK4, "≥ 1.8"),
        Row(GAUGE, RK4),
    ],
    20: [
        Row(RK4, RK4),
        Row(f"{RK4}, {MATMUL}", RK4),
        Row(f"{RK4}, {NUMPY}", RK4, "≥ 5"),
        Row(f"{RK4}, {STACKED}", RK4),
    ],
}


class Steps(NamedTuple):
    """Steps of one turn of a side, so that all turns take about as long."""

    engine: int
    matmul: int
    numpy: int


def report(quick: bool) -> Iterator[str]:
    """The tables of costs, one per size of matrix, and the time of a whole sweep."""
    rounds = 3 if quick else 15
    with jax.enable_x64(True):
        yield from _table("2000 runs of 4 x 4", 4, 2000, Steps(2400, 40, 400), rounds)
        yield from _table("2000 runs of 8 x 8", 8, 2000, Steps(80, 40, 400), rounds)
        yield from _table("256 runs of 20 x 20", 20, 256, Steps(80, 80, 400), rounds)
    yield "\nA whole sweep, on one device and on two:\n"
    command = [sys.executable, "-m", "benchmarks.completion_sweep", *(["--quick"] * quick)]
    yield subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip()


def _table(title: str, side: int, count: int, steps: Steps, rounds: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    target = random.standard_normal((count, side, side))
    mask = random.random((count, side, side)) < 0.6
    left, right = INIT_STD * random.standard_normal((2, count, side, side))
    instance = {"target": target, "mask": mask}
    runs = sweep.product(key=jax.random.key(0), instance=instance, init_std=INIT_STD)
    engine = functools.partial(_engine, runs, chunk=steps.engine, rounds=rounds)

    small = side <= 10
    layout = factorization.small_layout() if small else Layout(width=64)
    sides: dict[str, Side] = {}
    if small:
        sides[GD] = engine(flow.gradient_descent, factorization.small_layout(unroll=2))
        sides[GAUGE] = engine(flow.rk4, layout, transforms=(gauge.graded(8),))
    sides[RK4] = engine(flow.rk4, layout)
    for name, stages in ((GD, 1), (RK4, 4)) if small else ((RK4, 4),):
        vmapped = baselines.vmapped(left, right, target, mask, stages, steps.matmul)
        alone = baselines.in_numpy(left[0], right[0], target[0], mask[0], stages, steps.numpy)
        sides |= {f"{name}, {MATMUL}": vmapped, f"{name}, {NUMPY}": alone}
    if not small:
        together = baselines.in_numpy(left, right, target, mask, 4, steps.numpy // 20)
        sides[f"{RK4}, {STACKED}"] = together

    seconds = timing.interleave(sides, rounds)
    yield f"\n{title}:\n"
    yield from timing.table(seconds, ROWS[side], "ns" if small else "µs")
    peak = baselines.multiply_rate()
    rates = {
        name: baselines.operations(side, stages) / np.median(seconds[name])
        for name, stages in ((GD, 1), (RK4, 4))
        if name in seconds
    }
    shares = [f"{name} {rate / 1e9:.0f} ({rate / peak:.0%})" for name, rate in rates.items()]
    yield (
        f"\nArithmetic, in 10⁹ operations a second and as a share of the {peak / 1e9:.0f} that a "
        f"product of large matrices reaches on this core: {', '.join(shares)}."
    )


def _engine(
    runs: Runs,
    method: Callable[[flow.StepSize], Method],
    layout: Layout,
    *,
    chunk: int,
    rounds: int,
    transforms: tuple[Transform, ...] = (),
) -> Side:
    return timing.engine(
        factorization.problem(),
        method(factorization.safe_step()),
        runs,
        chunk=chunk,
        rounds=rounds,
        transforms=transforms,
        layout=layout,
    )
