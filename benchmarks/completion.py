"""Gradient flow of 4 x 4 matrix completion by RK4, in float64: what the memory layout is worth."""

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import timing
from benchmarks.timing import Row, Side
from phenodl import sweep
from phenodl.models import factorization
from phenodl.optim import flow
from phenodl.protocol import Layout

RUNS = 2048
INIT_STD = 1e-3
BATCHED, LAST = "runs first, vmapped", "runs last, in blocks"
ROWS = [Row(LAST, LAST), Row(BATCHED, LAST), Row("NumPy loop", LAST)]


def report(quick: bool) -> Iterator[str]:
    """The table of costs."""
    rounds, chunk = (3, 200) if quick else (15, 300)
    random = np.random.default_rng(0)
    targets, masks = random.standard_normal((RUNS, 4, 4)), random.random((RUNS, 4, 4)) < 0.6
    problem, method = factorization.problem(), flow.rk4(factorization.safe_step())
    with jax.enable_x64(True):
        runs = sweep.product(
            key=jax.random.key(0), instance={"target": targets, "mask": masks}, init_std=INIT_STD
        )
        sides = {
            name: timing.engine(problem, method, runs, chunk=chunk, rounds=rounds, layout=layout)
            for name, layout in ((LAST, factorization.small_layout()), (BATCHED, Layout(width=64)))
        }
        sides["NumPy loop"] = numpy_loop(targets[0], masks[0], steps=20 if quick else 200)
        yield from timing.table(timing.interleave(sides, rounds), ROWS, "ns")


def numpy_loop(target: np.ndarray, mask: np.ndarray, steps: int) -> Side:
    """One run, as one would write it down."""
    a, b = np.random.default_rng(0).standard_normal((2, 4, 4)) * INIT_STD

    def slope(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = np.where(mask, a @ b - target, 0)
        return residual @ b.T, a.T @ residual

    def advance() -> int:
        nonlocal a, b
        for _ in range(steps):
            first = slope(a, b)
            residual = np.where(mask, a @ b - target, 0)
            h = 1 / ((a**2).sum() + (b**2).sum() + np.sqrt((residual**2).sum()))
            second = slope(a - h / 2 * first[0], b - h / 2 * first[1])
            third = slope(a - h / 2 * second[0], b - h / 2 * second[1])
            fourth = slope(a - h * third[0], b - h * third[1])
            a = a - h / 6 * (first[0] + 2 * (second[0] + third[0]) + fourth[0])
            b = b - h / 6 * (first[1] + 2 * (second[1] + third[1]) + fourth[1])
        return steps

    return advance
