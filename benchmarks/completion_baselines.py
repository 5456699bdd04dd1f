"""What one would write without the engine: vmapped matmul in JAX, and NumPy; and the arithmetic."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Side

OFFSETS, WEIGHTS = (1 / 2, 1 / 2, 1), (1, 2, 2, 1)  # of the classical Runge-Kutta method


def vmapped(
    left: np.ndarray,
    right: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray,
    stages: int,
    steps: int,
) -> Side:
    """All runs in one array, runs first: ``jax.vmap`` of the step of one run, jitted in a scan."""

    def loss(factors: tuple, target: jax.Array, mask: jax.Array) -> jax.Array:
        residual = jnp.where(mask, factors[0] @ factors[1] - target, 0.0)
        return 0.5 * (residual**2).sum()

    def step(factors: tuple, target: jax.Array, mask: jax.Array) -> tuple:
        def move(h: jax.Array, slope: tuple) -> tuple:
            return tuple(factor - h * part for factor, part in zip(factors, slope, strict=True))

        value, first = jax.value_and_grad(loss)(factors, target, mask)
        h = 1 / (sum((factor**2).sum() for factor in factors) + jnp.sqrt(2 * value))
        if stages == 1:
            return move(h, first)
        slopes = [first]
        for offset in OFFSETS:
            slopes.append(jax.grad(loss)(move(offset * h, slopes[-1]), target, mask))
        a, b, c, d = slopes
        average = tuple((p + 2 * (q + r) + s) / 6 for p, q, r, s in zip(a, b, c, d, strict=True))
        return move(h, average)

    @jax.jit
    def train(factors: tuple, target: jax.Array, mask: jax.Array) -> tuple:
        body = lambda factors, _: (jax.vmap(step)(factors, target, mask), None)
        return jax.lax.scan(body, factors, length=steps)[0]

    factors = jnp.asarray(left), jnp.asarray(right)
    data = jnp.asarray(target), jnp.asarray(mask)

    def advance() -> int:
        nonlocal factors
        with jax.enable_x64(True):
            factors = jax.block_until_ready(train(factors, *data))
        return steps * len(left)

    return advance


def in_numpy(
    left: np.ndarray,
    right: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray,
    stages: int,
    steps: int,
) -> Side:
    """One run, or a stack of runs with the runs first, as one would write it down."""
    a, b = left, right
    runs = len(left) if left.ndim == 3 else 1

    def residual(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(mask, a @ b - target, 0)

    def slope(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r = residual(a, b)
        return r @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ r

    def squared_norm(matrix: np.ndarray) -> np.ndarray:
        return (matrix**2).sum((-1, -2), keepdims=True)

    def advance() -> int:
        nonlocal a, b
        for _ in range(steps):
            h = 1 / (squared_norm(a) + squared_norm(b) + np.sqrt(squared_norm(residual(a, b))))
            slopes = [slope(a, b)]
            for offset in OFFSETS[: stages - 1]:
                last = slopes[-1]
                slopes.append(slope(a - offset * h * last[0], b - offset * h * last[1]))
            weights = WEIGHTS if stages == 4 else (1,)
            along = [
                sum(weight * part for weight, part in zip(weights, parts, strict=True))
                for parts in zip(*slopes, strict=True)
            ]
            a = a - h / sum(weights) * along[0]
            b = b - h / sum(weights) * along[1]
        return steps * runs

    return advance


def operations(side: int, stages: int) -> int:
    """Additions and multiplications of one step of one run of ``side`` x ``side`` matrices.

    A gradient takes three products and the residual, the step size three squared norms, and each
    stage moves both factors. An average of four slopes takes five operations an entry of each.
    """
    entries = side * side
    gradient = 3 * 2 * side * entries + entries
    moves = stages * 2 * 2 * entries
    averages = 2 * 5 * entries if stages == 4 else 0
    return stages * gradient + 3 * 2 * entries + moves + averages


def multiply_rate(side: int = 1500, rounds: int = 5) -> float:
    """Operations a second of a product of large float64 matrices, on the core we are kept to."""
    left, right = np.random.default_rng(0).standard_normal((2, side, side))
    seconds = []
    for _ in range(rounds):
        clock = time.process_time()
        np.matmul(left, right)
        seconds.append(time.process_time() - clock)
    return 2 * side**3 / min(seconds)
