import functools

import jax
import jax.numpy as jnp
import pytest

from phenodl.embedding.symmetries import is_homogeneous, is_odd, vanishes_at_zero
from phenodl.models import mlp

leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.3)


@pytest.mark.parametrize(
    ("activation", "odd", "homogeneous"),
    [
        (mlp.tanh, True, False),
        (jnp.sin, True, False),
        (jax.nn.hard_tanh, True, False),
        (lambda z: z, True, True),
        (jax.nn.relu, False, True),
        (leaky, False, True),
        (jnp.abs, False, True),
        (jax.nn.elu, False, False),
        (jax.nn.gelu, False, False),
        (jax.nn.sigmoid, False, False),  # odd about 1/2, which is not enough
    ],
)
def test_known_activations_also_while_a_function_is_traced(activation, odd, homogeneous):
    assert (is_odd(activation), is_homogeneous(activation)) == (odd, homogeneous)
    is_odd.cache_clear()

    @jax.jit
    def traced(x):
        return x if is_odd(activation) == odd else -x

    assert float(traced(1.0)) == 1.0


def test_which_activations_vanish_at_zero():
    assert all(vanishes_at_zero(each) for each in (mlp.tanh, jax.nn.gelu, jax.nn.elu, leaky))
    assert not any(vanishes_at_zero(each) for each in (jnp.cos, jax.nn.softplus, jax.nn.sigmoid))
