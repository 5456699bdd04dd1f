"""A factorization of any inner width up to a widest one, in arrays of one shape."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Key

from phenodl.models import factorization
from phenodl.models.factorization import Factors
from phenodl.protocol import Data, Hyper, Problem


@functools.cache
def embedded(widest: int) -> Problem:
    """Matrix completion whose inner width is a hyper-parameter, ``hyper["inner_width"]``.

    A narrow factorization is one of the widest in which the surplus columns of A and rows of B are
    zero. Their gradients vanish, so that they stay zero: W_aug keeps its rank, which is the
    invariance of Ω_k (MF, arXiv 2405.13721). The training is exactly that of the narrow one, and
    all widths share one compiled step.

    The entries of the factors are normal with standard deviation std / w^(1/4), std being
    ``hyper["init_std"]`` and w the width: those of their product then have std², whatever w. An
    instance draws the same numbers at every width, of which the narrower take the first.

    Args:
        widest: columns of A in memory.
    """
    base = factorization.problem(widest)

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Factors:
        width = hyper["inner_width"].astype(data["target"].dtype)
        factors = base.init(key, data, {"init_std": hyper["init_std"] / width**0.25})
        used = (jnp.arange(widest).astype(width.dtype) < width).astype(width.dtype)
        return Factors(used[None] * factors.A, used[:, None] * factors.B)

    return base._replace(init=init)
