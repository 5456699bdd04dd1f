"""Cross-entropy of smoothed labels against optax, and its floor against its own minimum."""

import jax
import numpy as np
import optax
import pytest
from scipy.stats import entropy

from phenodl.models.losses import smoothed_cross_entropy, smoothing_floor


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_optax(smoothing):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(4, 3, 7)), random.integers(0, 7, (4, 3))
    with jax.numpy_dtype_promotion("standard"):
        targets = optax.smooth_labels(jax.nn.one_hot(labels, 7), smoothing)
        expected = optax.softmax_cross_entropy(logits, targets)
    found = jax.jit(smoothed_cross_entropy, static_argnums=2)(logits, labels, smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_floor_is_reached_at_the_logarithms_of_the_smoothed_label():
    target = np.full(9, 0.2 / 9)
    target[4] += 0.8
    loss = jax.jit(smoothed_cross_entropy, static_argnums=2)
    assert smoothing_floor(9, 0.2) == pytest.approx(entropy(target), rel=1e-12)
    assert float(loss(np.log(target), np.array(4), 0.2)) == pytest.approx(entropy(target))
    slope = jax.jit(jax.grad(lambda x: smoothed_cross_entropy(x, np.array(4), 0.2)))
    np.testing.assert_allclose(slope(np.log(target)), 0, atol=1e-15)


def test_without_smoothing_the_floor_is_zero():
    assert smoothing_floor(5, 0.0) == 0


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_bad_smoothing_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"^smoothing must be in \[0, 1\)"):
        smoothing_floor(3, smoothing)
