import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding.affine import (
    AffineInterval,
    affine_intervals,
    distance_to_kinks,
    require_affine,
    steepest_interval,
)
from phenodl.models import mlp

ACTIVATIONS = [
    *(jax.nn.identity, jax.nn.relu, jax.nn.leaky_relu, jax.nn.elu, jax.nn.celu, jax.nn.selu),
    *(jax.nn.relu6, jax.nn.hard_tanh, jax.nn.hard_sigmoid, jax.nn.hard_silu),
]


def grid(low, high, points=101):
    """From end to end, over a stretch of 30 where there is none."""
    if math.isinf(low) and math.isinf(high):
        return np.linspace(-30, 30, points)
    low, high = (high - 30 if math.isinf(low) else low), (low + 30 if math.isinf(high) else high)
    return np.linspace(low, high, points)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda each: each.__name__)
def test_affine_within_and_not_beyond(x64, activation):
    found = affine_intervals(activation)
    assert abs(found[0].slope) == max(abs(each.slope) for each in found)
    assert steepest_interval(activation) == found[0]
    for low, high, slope, intercept in found:
        z = grid(low, high)
        np.testing.assert_allclose(activation(jnp.asarray(z)), slope * z + intercept, atol=1e-14)
        for end, outwards in ((low, -1.0), (high, 1.0)):
            if math.isfinite(end):  # the interval cannot be widened
                beyond = end + 0.1 * outwards
                assert abs(float(activation(beyond)) - (slope * beyond + intercept)) > 1e-3


def test_curved_and_unknown_activations_have_none():
    for activation in (mlp.tanh, jnp.tanh, jax.nn.gelu, jax.nn.silu):
        with pytest.raises(ValueError, match=r"^activation: .* use approximate_lift$"):
            affine_intervals(activation)
    with pytest.raises(ValueError, match=r"^activation: <lambda> is not known; give its interval="):
        affine_intervals(lambda z: jax.nn.leaky_relu(z, 0.3))


def test_own_intervals_are_checked(x64):
    def own(z):
        return jnp.where(jnp.abs(z) <= 1, 2 - 3 * z, z**2)

    require_affine(own, AffineInterval(-1.0, 0.9, slope=-3.0, intercept=2.0))
    jax.jit(lambda: require_affine(own, AffineInterval(-0.5, 0.5, -3.0, 2.0)))()
    with pytest.raises(ValueError, match=r"^interval: the activation departs from 3 z"):
        require_affine(own, AffineInterval(-1.0, 0.9, slope=3.0, intercept=2.0))
    with pytest.raises(ValueError, match=r"^interval: the activation departs"):
        require_affine(jax.nn.elu, AffineInterval(-0.1, math.inf))
    with pytest.raises(ValueError, match="expected low < high"):
        require_affine(own, AffineInterval(1.0, 1.0))
    with pytest.raises(ValueError, match="slope other than 0"):
        require_affine(jax.nn.relu, AffineInterval(-2.0, -1.0, slope=0.0))


def test_single_precision_intervals_pass():
    for activation in ACTIVATIONS:
        require_affine(activation, steepest_interval(activation))


def test_distance_to_the_nearest_kink(x64):
    z = jnp.array([[-2.5, 0.3], [4.0, 7.5]])
    assert float(distance_to_kinks(z, jax.nn.elu)) == 0.3
    assert float(distance_to_kinks(z, jax.nn.relu6)) == 0.3
    assert float(distance_to_kinks(z, jax.nn.hard_sigmoid)) == 0.5
    assert float(distance_to_kinks(z, jax.nn.identity)) == math.inf
