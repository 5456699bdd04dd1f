"""Matrix factorization W = A B, the model of implicit regularization in matrix completion.

Every helper is written for *trailing* run axes: it takes one factorization with matrices (rows,
columns) and a block of them with matrices (rows, columns, runs) alike. Products are broadcast sums
over the inner index. With the runs last, such a sum fills the vector units, and for 4 x 4 matrices
it is an order of magnitude faster on a CPU than a batched matrix product
(``Layout(run_axis=-1)``).
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from phenodl.compiler import computed_once
from phenodl.protocol import Data, Hyper, Layout, Objective, Problem

EntryLoss = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
"""``entry_loss(w, m)``, elementwise: the loss of the learned entries w given the observed m."""


class Factors(NamedTuple):
    """The parameters of W = A B."""

    A: Float[Array, "rows inner *runs"]
    B: Float[Array, "inner columns *runs"]


def squared_error(w: Float[Array, "..."], m: Float[Array, "..."]) -> Float[Array, "..."]:
    """1/2 (w - m)².

    Example:
        >>> float(squared_error(jnp.array(3.0), jnp.array(1.0)))
        2.0
    """
    return 0.5 * (w - m) ** 2


def huber(w: Float[Array, "..."], m: Float[Array, "..."]) -> Float[Array, "..."]:
    """1/2 (w - m)² up to a distance of 1, linear beyond: an outlier pulls with force 1 at most.

    Example:
        >>> float(huber(jnp.array(3.0), jnp.array(0.0)))
        2.5
    """
    distance = jnp.abs(w - m)
    return jnp.where(distance <= 1, 0.5 * distance**2, distance - 0.5)


def logistic(w: Float[Array, "..."], m: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + exp(-m w)) for labels m = ±1.

    Example:
        >>> round(float(logistic(jnp.array(0.0), jnp.array(1.0))), 4)
        0.6931
    """
    return jax.nn.softplus(-m * w)


Observations = Mapping[str, Array]
"""``target`` and ``mask`` of a run or of a block of runs, see :func:`problem`."""


@functools.cache
def problem(inner_width: int | None = None, entry_loss: EntryLoss = squared_error) -> Problem:
    """Matrix completion: fit the observed entries of a matrix by W = A B from a Gaussian start.

    The loss is Σ entry_loss(W_ij, M_ij) over the observed entries, 1/2 Σ (W_ij - M_ij)² by default;
    the model fixes the invariant manifolds, whatever the loss. Equal arguments give the same
    problem, so that trainings of one process share a compiled step.

    The run's data hold ``target``, the matrix M (rows, columns), whose unobserved entries are never
    read and may be NaN, and ``mask``, boolean of the same shape, true where an entry is observed.
    The entries of A and B are drawn independently with standard deviation ``hyper["init_std"]``.

    Args:
        inner_width: columns of A; by default the smaller side of the matrix, so that W can be any
            matrix and nothing but the dynamics limits its rank.
        entry_loss: of one entry, twice differentiable almost everywhere.

    Raises:
        ValueError: ``inner_width`` is less than 1.

    Example:
        >>> target, mask = jnp.ones((2, 3)), jnp.array([[True, False, True], [False, True, True]])
        >>> model = problem()
        >>> data = {"target": target, "mask": mask}
        >>> factors = model.init(jax.random.key(0), data, {"init_std": jnp.array(0.1)})
        >>> factors.A.shape, factors.B.shape, model.loss(factors, data).shape
        ((2, 2), (2, 3), ())
    """
    if inner_width is not None and inner_width < 1:
        raise ValueError(f"inner_width must be at least 1, got {inner_width}")

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Factors:
        target, std = data["target"], hyper["init_std"]
        rows, columns = target.shape
        inner = min(rows, columns) if inner_width is None else inner_width
        key_a, key_b = jax.random.split(key)
        return Factors(
            std * jax.random.normal(key_a, (rows, inner), target.dtype),
            std * jax.random.normal(key_b, (inner, columns), target.dtype),
        )

    def loss(factors: Factors, data: Observations) -> Float[Array, "*runs"]:
        mask = data["mask"]
        # A NaN must not enter: the gradient would hold 0 times NaN, though the loss is masked.
        errors = entry_loss(product(factors), jnp.where(mask, data["target"], 0.0))
        return jnp.where(mask, errors, 0.0).sum((0, 1))

    return Problem(init=init, loss=squared_loss if entry_loss is squared_error else loss)


def given_start(key: Key[Array, ""], data: Data, hyper: Hyper) -> Factors:
    """An initialiser for runs that start from parameters of their own, the data's ``start``.

    ``problem()._replace(init=given_start)`` trains them, with ``start`` beside ``target`` and
    ``mask`` on the axis of instances.

    Example:
        >>> start = Factors(jnp.ones((2, 1)), jnp.ones((1, 2)))
        >>> given_start(None, {"start": start}, {}) is start
        True
    """
    del key, hyper
    return data["start"]


def product(factors: Factors) -> Float[Array, "rows columns *runs"]:
    """The matrix W = A B.

    Example:
        >>> product(Factors(jnp.ones((2, 3)), jnp.ones((3, 2)))).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    if factors.A.ndim == 2:
        return factors.A @ factors.B
    return (factors.A[:, :, None] * factors.B[None]).sum(1)


def stacked(factors: Factors) -> Float[Array, "rows_and_columns inner *runs"]:
    """W_aug, the rows of A above the columns of B (MF, arXiv 2405.13721).

    Its rank is what gradient flow conserves, for every mask and every loss of W.

    Example:
        >>> stacked(Factors(jnp.ones((2, 3)), jnp.ones((3, 4)))).shape
        (6, 3)
    """
    return jnp.concatenate([factors.A, jnp.swapaxes(factors.B, 0, 1)])


def imbalance(factors: Factors) -> Float[Array, "inner inner *runs"]:
    """Aᵀ A - B Bᵀ, which gradient flow conserves, for every mask and every loss of W.

    The law is due to Arora, Cohen, Hazan, ICML 2018 (arXiv 1802.06509).

    Example:
        >>> imbalance(Factors(jnp.array([[3.0]]), jnp.array([[1.0, 2.0]]))).tolist()
        [[4.0]]
    """
    a, b = factors
    gram_a, gram_b = Factors(jnp.swapaxes(a, 0, 1), a), Factors(b, jnp.swapaxes(b, 0, 1))
    return product(gram_a) - product(gram_b)


def residual(factors: Factors, data: Observations) -> Float[Array, "rows columns *runs"]:
    """R, W - M on the observed entries and zero elsewhere.

    Example:
        >>> data = {"target": jnp.zeros((1, 2)), "mask": jnp.array([[True, False]])}
        >>> residual(Factors(jnp.ones((1, 1)), jnp.ones((1, 2))), data).tolist()
        [[1.0, 0.0]]
    """
    return jnp.where(data["mask"], product(factors) - data["target"], 0.0)


def squared_loss(factors: Factors, data: Observations) -> Float[Array, "*runs"]:
    """1/2 Σ (W_ij - M_ij)² over the observed entries, for each run."""
    return 0.5 * jnp.square(computed_once(residual)(factors, data)).sum((0, 1))


def mean_loss(loss: Float[Array, "*runs"], mask: Bool[Array, "rows columns *runs"]) -> Array:
    """The loss per observed entry, the scale of every threshold of convergence.

    Example:
        >>> float(mean_loss(jnp.array(4.0), jnp.array([[True, False], [True, False]])))
        2.0
    """
    return loss / mask.sum((0, 1)).astype(loss.dtype)


@functools.cache
def safe_step(factor: float = 1.0) -> Callable[[Objective, Factors, Hyper], Float[Array, "*runs"]]:
    """The step h = factor / (|A|_F² + |B|_F² + |R|_F), R the residual on the observed entries.

    The denominator bounds the largest Hessian eigenvalue of the squared loss: along (dA, dB) the
    quadratic form is |dA B + A dB|² + 2 <R, dA dB> on the observed entries, at most
    (|A|² + |B|² + |R|) (|dA|² + |dB|²) by Cauchy-Schwarz. A factor of 1 therefore keeps a step
    within half the limit of stability of gradient descent, h λ_max < 2.

    Args:
        factor: 1 is accurate for :func:`phenodl.optim.flow.rk4`. Plain gradient descent at 1 is
            stable, but not yet gradient flow: it biases the solution it finds.

    Returns:
        A step-size rule for :mod:`phenodl.optim.flow`. It takes |R|_F from the loss, √(2 L). For
        another entry loss R is its derivative; of one that is nonnegative with a second derivative
        of at most 1 (Huber, logistic) √(2 L) is still a bound of |R|_F, and the rule as safe.

    Raises:
        ValueError: ``factor`` is not positive.

    Example:
        >>> from phenodl.optim import flow
        >>> method = flow.rk4(safe_step(1.0))
    """
    if not factor > 0:
        raise ValueError(f"factor must be positive, got {factor}")

    def step_size(objective: Objective, factors: Factors, hyper: Hyper) -> Float[Array, "*runs"]:
        del hyper
        curvature = _squared_norm(factors.A) + _squared_norm(factors.B)
        return factor / (curvature + jnp.sqrt(2 * objective.loss))

    return step_size


def small_layout(width: int = 40, unroll: int = 1) -> Layout:
    """The layout in which matrices of up to about 10 x 10 train fastest on a CPU.

    Runs last, in blocks that stay in the innermost cache, and all steps in one kernel. The options
    let the compiler use the full width of the vector units, and keep sums out of a library that is
    made for large arrays. Larger matrices want ``Layout()`` and matrix products.

    Args:
        width: runs per block. For 4 x 4 matrices 40 and 48 are alike. The compiler writes out loops
            over 32 and less before it thinks of vector units, and from 64 on a block of float64
            outgrows the innermost cache.
        unroll: steps at each turn of the loop. 2 saves plain gradient descent a tenth of its time;
            Runge-Kutta steps gain nothing and compile longer.

    Example:
        >>> small_layout().run_axis
        -1
    """
    options = (
        ("xla_cpu_prefer_vector_width", 512),
        ("xla_cpu_use_fusion_emitters", False),
        ("xla_cpu_experimental_ynn_fusion_type", ""),
    )
    return Layout(
        run_axis=-1, width=width, compiler_options=options, one_kernel=True, unroll=unroll
    )


def _squared_norm(matrix: Float[Array, "rows columns *runs"]) -> Float[Array, "*runs"]:
    return (matrix * matrix).sum((0, 1))
