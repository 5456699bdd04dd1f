"""A random network and its Hessian as a dense matrix, from which operators are checked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from phenodl.curvature import dense, hessian
from phenodl.models import mlp

WIDTHS = (3, 6, 2)
SIZE = 6 * (3 + 1) + 2 * (6 + 1)


def network(seed, dtype):
    """Parameters and loss of a network with large weights on random data."""
    random = np.random.default_rng(seed)
    data = random.standard_normal((30, 3)), random.standard_normal((30, 2))
    model = mlp.problem(*(array.astype(dtype) for array in data), hidden=WIDTHS[1:-1])
    params = mlp.init(jax.random.key(seed), WIDTHS, dtype)
    return jax.tree.map(lambda leaf: 2 * leaf, params), lambda params: model.loss(
        params, model.data
    )


def positive(seed, like):
    """A positive diagonal spread over two decades."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(10 ** random.uniform(-1, 1, leaf.shape), leaf.dtype), like
    )


@functools.partial(jax.jit, static_argnums=0)
def _dense_hessian(loss, params):
    return dense(hessian(loss, params), params)


def dense_hessian(loss, params):
    return np.asarray(_dense_hessian(loss, params), np.float64)
