"""The graded gauge of a deep factorization: one rotation between each adjacent pair of factors.

W = A_1 ... A_L does not change under A_l ← A_l Q, A_{l+1} ← Qᵀ A_{l+1}, and neither do the loss and
the flow. As at depth 2 (:mod:`phenodl.completion.gauge`), a start far below rounding keeps its
relative accuracy only in a basis in which small directions are stored apart from large ones.
"""

import functools

from phenodl.completion.gauge import orthogonalize
from phenodl.models.deep_factorization import Factors
from phenodl.protocol import Transform


@functools.cache
def graded(every: int = 8) -> Transform:
    """Sweeps over all adjacent pairs after every few steps.

    Args:
        every: steps between two sweeps.

    Example:
        >>> graded(every=8).every
        8
    """

    def apply(factors: Factors, batch: object) -> Factors:
        del batch
        return orthogonalize_pairs(factors)

    return Transform(every, apply)


def orthogonalize_pairs(factors: Factors) -> Factors:
    """One sweep of one-sided Jacobi rotations per adjacent pair, from left to right.

    Where the factors are balanced, A_lᵀ A_l = A_{l+1} A_{l+1}ᵀ, the columns of A_l and the rows of
    A_{l+1} become orthogonal together. If the singular values are distinct too, repeated sweeps
    leave one entry in each row and column of a square inner factor: its singular values, in an
    order that each factor chooses for itself.

    Args:
        factors: of one run, or of a block of runs with the runs last.

    Example:
        >>> import jax.numpy as jnp
        >>> from phenodl.models import deep_factorization
        >>> factors = (jnp.eye(2), jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.ones((2, 3)))
        >>> product = deep_factorization.product(orthogonalize_pairs(factors))
        >>> bool(jnp.allclose(product, deep_factorization.product(factors)))
        True
    """
    turned = list(factors)
    for place in range(len(turned) - 1):
        turned[place], turned[place + 1] = orthogonalize(turned[place], turned[place + 1])
    return tuple(turned)
