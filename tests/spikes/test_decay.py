"""The decay of v on moments made by the recursion itself, and by optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from phenodl.spikes.decay import Decay, fit, onset, uncorrected


def moments(squared_gradient, b2):
    """v_t = b2 v_{t-1} + (1 - b2) g_t², from v = 0."""
    v, out = 0.0, []
    for square in squared_gradient:
        v = b2 * v + (1 - b2) * square
        out.append(v)
    return np.array(out)


@pytest.mark.parametrize("b2", [0.95, 0.99, 0.999])
def test_without_gradient_the_decay_is_b2(b2):
    squares = np.where(np.arange(400) < 150, 1.0, 0.0)
    decay = fit(squares, moments(squares, b2))
    assert decay.factor == pytest.approx(b2, abs=1e-12)
    assert decay[1:] == (150, 399)


def test_a_gradient_in_proportion_to_v_slows_the_decay_as_the_recursion_says():
    # g² = .05 v gives v_t = b2 v_{t-1} / (1 - .05 (1 - b2)).
    b2, share = 0.99, 0.05
    factor = b2 / (1 - share * (1 - b2))
    v = factor ** np.arange(100)
    assert fit(share * v, v).factor == pytest.approx(factor, abs=1e-12)


def test_the_longest_quiet_stretch_is_fitted():
    squares = np.ones(300)
    squares[100:120] = squares[150:250] = 0
    assert fit(squares, moments(squares, 0.99))[1:] == (150, 249)


def test_nothing_to_fit():
    squares = np.ones(50)
    squares[[20, 21, 40]] = 0
    assert np.isnan(fit(squares, moments(squares, 0.99)).factor)
    assert fit(np.ones(50), moments(np.ones(50), 0.99))[1:] == Decay(np.nan, -1, -1)[1:]


def test_onset():
    squares, v = np.array([1.0, 0.5, 0.09, 0.5, 0.0]), np.ones(5)
    assert onset(squares, v) == 2
    assert onset(squares, v, ratio=0.05) == 4
    assert onset(np.ones(5), v) == -1


def test_the_uncorrected_moment_is_the_one_that_optax_keeps(x64):
    grads = np.random.default_rng(0).normal(size=(40, 3))
    tx = optax.adam(0.1, b2=0.97)

    def step(state, grad):
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(grad, state)
            corrected = optax.tree.bias_correction(state[0].nu, 0.97, state[0].count)
        return state, (state[0].nu.sum(), corrected.sum())

    _, (kept, corrected) = jax.jit(lambda g: jax.lax.scan(step, tx.init(g[0]), g))(
        jnp.asarray(grads)
    )
    np.testing.assert_allclose(uncorrected(np.asarray(corrected), 0.97), kept, rtol=1e-10)
    np.testing.assert_allclose(kept, moments((grads**2).sum(axis=1), 0.97), rtol=1e-10)
