"""Deep matrix factorization W = A_1 A_2 ... A_L: the deeper, the stronger its bias to low rank.

The comparison with depth 2 is that of Arora, Cohen, Hu, Luo, NeurIPS 2019 (arXiv 1905.13655). As in
:mod:`phenodl.models.factorization`, whose products and losses serve here too, every helper takes
the matrices of one run and those of a block with the runs along the last axis alike. Depth 2 is
that module's model.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from phenodl.models import factorization
from phenodl.protocol import Data, Hyper, Objective, Problem

Factors = tuple[Float[Array, "rows columns *runs"], ...]
"""The parameters, A_1 to A_L; the columns of each are as many as the rows of the next."""

Start = Literal["gaussian", "identity"]


@functools.cache
def problem(
    depth: int,
    inner_width: int | tuple[int, ...] | None = None,
    start: Start = "gaussian",
    entry_loss: factorization.EntryLoss = factorization.squared_error,
) -> Problem:
    """Matrix completion by W = A_1 ... A_L; the run's data are those of the two-layer model.

    Near zero the gradient is of order |A|^(L-1): with a fixed step, deeper products leave a start
    of standard deviation ``hyper["init_std"]`` only after a time of order init_std^-(L-2). The step
    of :func:`safe_step` grows as the factors shrink, and needs a number of steps that is
    logarithmic in init_std.

    Args:
        depth: the number of factors, L.
        inner_width: of all L - 1 products between neighbours, or of each; by default the smaller
            side of the matrix, so that nothing but the dynamics limits the rank of W.
        start: ``"gaussian"``: all entries independent with standard deviation ``init_std``;
            ``"identity"``: every factor is init_std times the identity, rectangular if need be,
            a start that is exactly balanced, A_lᵀ A_l = A_{l+1} A_{l+1}ᵀ, where all are square.
        entry_loss: as for :func:`phenodl.models.factorization.problem`.

    Returns:
        The same object for the same arguments, so that trainings share compiled programs.

    Raises:
        ValueError: ``depth`` is less than 2, a width less than 1, their number is not
            ``depth - 1``, or there is no such ``start``.

    Example:
        >>> data = {"target": jnp.ones((2, 3)), "mask": jnp.ones((2, 3), bool)}
        >>> model = problem(depth=3, inner_width=(4, 5))
        >>> factors = model.init(jax.random.key(0), data, {"init_std": jnp.array(0.1)})
        >>> [factor.shape for factor in factors], model.loss(factors, data).shape
        ([(2, 4), (4, 5), (5, 3)], ())
    """
    if depth < 2:
        raise ValueError(f"depth must be at least 2, got {depth}")
    widths = inner_width if isinstance(inner_width, tuple) else (inner_width,) * (depth - 1)
    if len(widths) != depth - 1:
        raise ValueError(f"inner_width must have depth - 1 = {depth - 1} entries, got {widths}")
    if any(width is not None and width < 1 for width in widths):
        raise ValueError(f"inner_width must be at least 1, got {inner_width}")
    if start not in get_args(Start):
        raise ValueError(f"start must be one of {', '.join(get_args(Start))}, got {start!r}")
    two_layers = factorization.problem(entry_loss=entry_loss)

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Factors:
        target, std = data["target"], hyper["init_std"]
        rows, columns = target.shape
        inner = (min(rows, columns) if width is None else width for width in widths)
        shapes = list(itertools.pairwise((rows, *inner, columns)))
        if start == "identity":
            return tuple(std * jnp.eye(*shape, dtype=target.dtype) for shape in shapes)
        keys = jax.random.split(key, depth)
        return tuple(
            std * jax.random.normal(each, shape, target.dtype)
            for each, shape in zip(keys, shapes, strict=True)
        )

    def loss(factors: Factors, data: Data) -> Float[Array, "*runs"]:
        *leading, last = factors
        return two_layers.loss(factorization.Factors(product(tuple(leading)), last), data)

    return Problem(init=init, loss=loss)


def product(factors: Factors) -> Float[Array, "rows columns *runs"]:
    """The matrix W = A_1 A_2 ... A_L.

    Example:
        >>> product((jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.ones((4, 2)))).tolist()
        [[12.0, 12.0], [12.0, 12.0]]
    """
    return functools.reduce(_times, factors)


def imbalances(factors: Factors) -> tuple[Float[Array, "inner inner *runs"], ...]:
    """A_lᵀ A_l - A_{l+1} A_{l+1}ᵀ for every adjacent pair, which gradient flow conserves.

    See :func:`phenodl.models.factorization.imbalance`.

    Example:
        >>> imbalances((jnp.ones((2, 1)), jnp.ones((1, 1)), jnp.ones((1, 3))))[0].tolist()
        [[1.0]]
    """
    return tuple(
        factorization.imbalance(factorization.Factors(left, right))
        for left, right in itertools.pairwise(factors)
    )


@functools.cache
def safe_step(factor: float = 1.0) -> Callable[[Objective, Factors, Hyper], Float[Array, "*runs"]]:
    """The step h = factor / bound, with a bound on the largest Hessian eigenvalue at any depth.

    Let R be the residual on the observed entries and a(i, j) = |A_i ... A_j|_F, 1 if the product is
    empty. Along (dA_1, ..., dA_L) the quadratic form of the Hessian is |dW|² + <R, d²W> with

    - dW = Σ_k (A_1 ... A_{k-1}) dA_k (A_{k+1} ... A_L). The Frobenius norm of a product is at most
      the product of the norms, so by Cauchy-Schwarz |dW|² ≤ Σ_k p_k² |dA|², where
      p_k = a(1, k-1) a(k+1, L) and |dA|² = Σ_k |dA_k|²;
    - d²W = 2 Σ_{k<j} (A_1 ... A_{k-1}) dA_k (A_{k+1} ... A_{j-1}) dA_j (A_{j+1} ... A_L), so that
      <R, d²W> ≤ |R|_F xᵀ C x with x_k = |dA_k|_F, C symmetric with zero diagonal and, for k < j,
      C_kj = a(1, k-1) a(k+1, j-1) a(j+1, L).

    A symmetric L x L matrix of trace zero has λ_max² ≤ (1 - 1/L) |C|_F²: its other eigenvalues sum
    to -λ_max, so that their squares sum to λ_max² / (L - 1) at least. Together
    λ_max ≤ Σ_k p_k² + |R|_F sqrt(2 (1 - 1/L) Σ_{k<j} C_kj²). At depth 2 this is the bound of
    :func:`phenodl.models.factorization.safe_step`. Norms of products, rather than products of
    norms, keep the bound tight where W has high rank.

    Args:
        factor: 1 is accurate for :func:`phenodl.optim.flow.rk4`.

    Returns:
        A step-size rule for :mod:`phenodl.optim.flow`. It takes sqrt(2 loss) for |R|_F, which is
        an upper bound for every non-negative entry loss with second derivative at most 1.

    Raises:
        ValueError: ``factor`` is not positive.

    Example:
        >>> from phenodl.optim import flow
        >>> method = flow.rk4(safe_step())
    """
    if not factor > 0:
        raise ValueError(f"factor must be positive, got {factor}")

    def step_size(objective: Objective, factors: Factors, hyper: Hyper) -> Float[Array, "*runs"]:
        del hyper
        depth, norms = len(factors), _segment_norms(factors)
        first = sum(norms[0, k] * norms[k + 1, depth] for k in range(depth))
        second = sum(
            norms[0, k] * norms[k + 1, j] * norms[j + 1, depth]
            for k, j in itertools.combinations(range(depth), 2)
        )
        bound = first + jnp.sqrt(2 * (1 - 1 / depth) * second * 2 * objective.loss)
        # Where all factors vanish, a saddle, any step will do, but not an infinite one.
        return factor / jnp.maximum(bound, jnp.finfo(bound.dtype).tiny)

    return step_size


def _segment_norms(factors: Factors) -> dict[tuple[int, int], Float[Array, "*runs"]]:
    """|A_{i+1} ... A_j|_F² for all i <= j in 0, ..., L; 1 for the empty product."""
    one = jnp.ones_like(factors[0][0, 0])
    norms = {(end, end): one for end in range(len(factors) + 1)}
    for begin in range(len(factors)):
        for end, segment in enumerate(itertools.accumulate(factors[begin:], _times), begin + 1):
            norms[begin, end] = (segment * segment).sum((0, 1))
    return norms


def _times(
    left: Float[Array, "rows inner *runs"], right: Float[Array, "inner columns *runs"]
) -> Float[Array, "rows columns *runs"]:
    return factorization.product(factorization.Factors(left, right))
