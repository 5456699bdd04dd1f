"""Gradient flow of a matrix factorization in whole numbers: some 80 correct digits throughout.

Every entry is an integer times 2^-400, so that an entry of 1e-30 has 90 digits. Plain Python, one
run at a time, written down from the definitions: the classical Runge-Kutta method with the step
1 / (|A|² + |B|² + |R|), until the mean loss per observed entry is small enough.
"""

import math
from fractions import Fraction

import numpy as np

BITS = 400
UNIT = 1 << BITS


def fit(target, mask, left, right, mean_loss, limit=20_000):
    """Trains the float64 factors ``left`` and ``right``; returns (product as float64, steps)."""
    state = np.array([_whole(left), _whole(right).T], dtype=object)  # A and Bᵀ, square both
    target, observed = _whole(np.where(mask, target, 0)), mask.astype(int).astype(object)
    threshold = 2 * mean_loss * mask.sum()

    def evaluate(state):
        a, b = state
        residual = observed * (_rounded(a @ b.T) - target)
        return residual, np.array([_rounded(residual @ b), _rounded(residual.T @ a)], dtype=object)

    for step in range(limit):
        residual, first = evaluate(state)
        squares = (residual**2).sum()
        if squares <= threshold * UNIT**2:
            return (_rounded(state[0] @ state[1].T) / UNIT).astype(float), step
        curvature = ((state**2).sum() >> BITS) + math.isqrt(squares)
        h = UNIT**2 // curvature
        _, second = evaluate(state - _rounded(h * first) // 2)
        _, third = evaluate(state - _rounded(h * second) // 2)
        _, fourth = evaluate(state - _rounded(h * third))
        state = state - _rounded(h * (first + 2 * (second + third) + fourth)) // 6
    raise RuntimeError(f"no fit after {limit} steps")


def _whole(matrix):
    """From floating point, without rounding where an entry is a multiple of 2^-400."""
    return np.array(
        [[int(Fraction(float(entry)) * UNIT) for entry in row] for row in matrix], dtype=object
    )


def _rounded(products):
    """The product of two numbers of 400 binary places, cut down to 400 again."""
    return products >> BITS
