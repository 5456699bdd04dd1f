"""Gradient flow of matrix completion on one core, in float64: what the memory layout is worth.

Every side takes the same steps of the same runs: W = A B, the safe step of each run, gradient
descent or the classical Runge-Kutta method. The engine takes them as a user's training does.
"""

import subprocess
import sys
from collections.abc import Iterator
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
from phenodl.protocol import Layout

GD, RK4, GAUGE = "gradient descent", "Runge-Kutta", "Runge-Kutta, gauge every 8 steps"
MATMUL, NUMPY, STACKED = "vmapped matmul", "NumPy, run by run", "NumPy, all runs at once"
INIT_STD = 1e-3


class Steps(NamedTuple):
    """Steps of one turn of a side, so that all turns take about as long."""

    engine: int
    matmul: int
    numpy: int


def report(quick: bool) -> Iterator[str]:
    """The tables of costs, one per size of matrix, and the time of a whole sweep."""
    rounds = 3 if quick else 15
    with jax.enable_x64(True):
        yield from _table("2000 runs of 4 x 4", 4, 2000, Steps(800, 40, 400), rounds)
        yield from _table("2000 runs of 8 x 8", 8, 2000, Steps(80, 40, 400), rounds)
        yield from _table("256 runs of 20 x 20", 20, 256, Steps(80, 80, 400), rounds)
    yield "\nA whole sweep, on one device and on two:\n"
    command = [sys.executable, "-m", "benchmarks.completion_sweep", *(["--quick"] * quick)]
    yield subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip()


def _table(title: str, side: int, count: int, steps: Steps, rounds: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    instances = {
        "target": random.standard_normal((count, side, side)),
        "mask": random.random((count, side, side)) < 0.6,
    }
    small = side <= 10
    layout = factorization.small_layout() if small else Layout(width=64)
    methods = {GD: flow.gradient_descent, RK4: flow.rk4} if small else {RK4: flow.rk4}
    runs = sweep.product(key=jax.random.key(0), instance=instances, init_std=INIT_STD)

    sides: dict[str, Side] = {}
    for name, method in methods.items():
        arguments = factorization.problem(), method(factorization.safe_step()), runs
        sides[name] = timing.engine(*arguments, chunk=steps.engine, rounds=rounds, layout=layout)
        if small and name == RK4:
            sides[GAUGE] = timing.engine(
                *arguments,
                chunk=steps.engine,
                rounds=rounds,
                layout=layout,
                transforms=(gauge.graded(8),),
            )
        stages = 1 if name == GD else 4
        start = INIT_STD * random.standard_normal((2, count, side, side))
        problem = *start, *instances.values()
        sides[f"{name}, {MATMUL}"] = baselines.vmapped(*problem, stages, steps.matmul)
        one = tuple(array[0] for array in problem)
        sides[f"{name}, {NUMPY}"] = baselines.in_numpy(*one, stages, steps.numpy)
        if not small:
            sides[f"{name}, {STACKED}"] = baselines.in_numpy(*problem, stages, steps.numpy // 20)
    seconds = timing.interleave(sides, rounds)
    yield f"\n{title}:\n"
    yield from timing.table(seconds, _rows(side), "ns" if small else "µs")

    peak = baselines.multiply_rate()
    rates = {
        name: baselines.operations(side, 1 if name == GD else 4) / np.median(seconds[name])
        for name in methods
    }
    shares = [f"{name} {rate / 1e9:.0f} ({rate / peak:.0%})" for name, rate in rates.items()]
    yield (
        f"\nArithmetic, in 10⁹ operations a second and as a share of the {peak / 1e9:.0f} that a "
        f"product of large matrices reaches on this core: {', '.join(shares)}."
    )


def _rows(side: int) -> list[Row]:
    """What is compared, and the targets."""
    matmul, numpy = {4: (("≥ 28", "≥ 22"), "≥ 400"), 8: (("≥ 1.8", "≥ 1.8"), "")}.get(
        side, (("", ""), "≥ 5")
    )
    return [
        Row(GD, GD),
        Row(f"{GD}, {MATMUL}", GD, matmul[0]),
        Row(f"{GD}, {NUMPY}", GD, numpy),
        Row(RK4, RK4),
        Row(GAUGE, RK4, "≤ 1.3" if side == 4 else ""),
        Row(f"{RK4}, {MATMUL}", RK4, matmul[1]),
        Row(f"{RK4}, {NUMPY}", RK4, numpy),
        Row(f"{RK4}, {NUMPY}", GAUGE, numpy),
        Row(f"{RK4}, {STACKED}", RK4, numpy),
    ]
