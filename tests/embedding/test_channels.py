"""Channels split by hand, and what becomes of outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import units
from phenodl.embedding.channels import channels
from phenodl.models import cnn, mlp

RANDOM = np.random.default_rng(0)
IMAGES = cnn.arrange(jnp.asarray(RANDOM.normal(size=(6, 8, 8)), jnp.float32), "xla")


@jax.jit
def drawn():
    return cnn.init(jax.random.key(0), (8, 8), (2, 3), hidden=4, outputs=2)


@jax.jit
def outputs_and_gradient(params):
    def outputs(params):
        images = jnp.asarray(IMAGES, params["conv1"]["weight"].dtype)
        return cnn.apply(params, images, "xla", jnp.tanh)

    def loss(params):
        return jnp.sum(jnp.sin(outputs(params)))

    return outputs(params), jax.grad(loss)(params)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "dense1"])
def test_a_split_keeps_outputs_and_shares_the_gradient(x64, layer):
    params, alpha = drawn(), 0.3
    wide = units.split(params, channels(params, layer), 1, alpha)
    (before, narrow), (after, split) = outputs_and_gradient(params), outputs_and_gradient(wide)
    np.testing.assert_allclose(after, before, rtol=1e-12)
    # What goes into original and copy has gradients in proportion to their shares.
    ours = split[layer]["weight"]
    np.testing.assert_allclose(ours[..., 1], (1 - alpha) * narrow[layer]["weight"][..., 1], 1e-9)
    np.testing.assert_allclose(ours[..., -1], alpha * narrow[layer]["weight"][..., 1], 1e-9)
    np.testing.assert_allclose(ours[..., 0], narrow[layer]["weight"][..., 0], 1e-9)


def test_the_arrays_of_a_split_written_out():
    params = jax.tree.map(np.asarray, drawn())
    wide = units.split(params, channels(params, "conv2"), 0, 0.25)
    for name in ("weight", "bias"):
        expected = np.concatenate([params["conv2"][name], params["conv2"][name][..., :1]], -1)
        np.testing.assert_array_equal(wide["conv2"][name], expected)
    rows = params["dense1"]["weight"].reshape(3, 4, 4)  # channels, pixels, units
    expected = np.concatenate([rows[:1] * 0.75, rows[1:], rows[:1] * 0.25]).reshape(16, 4)
    np.testing.assert_allclose(wide["dense1"]["weight"], expected, rtol=1e-6)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "dense1"])
def test_a_null_channel_adds_no_gradient(x64, layer):
    params = drawn()
    wide = units.null(params, channels(params, layer))
    (before, narrow), (after, null) = outputs_and_gradient(params), outputs_and_gradient(wide)
    np.testing.assert_allclose(after, before, rtol=1e-12)

    def norm(tree):
        return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))

    assert norm(null) == pytest.approx(norm(narrow), rel=1e-12)


def test_what_is_not_there_is_refused():
    params = drawn()
    with pytest.raises(ValueError, match=r"^layer: expected one of conv1, .*, got 'dense2'"):
        channels(params, "dense2")
    with pytest.raises(ValueError, match=r"^params: expected the layers conv1, .*, got layer_0"):
        channels(mlp.init(jax.random.key(0), [1, 2, 1]), "conv1")
    with pytest.raises(ValueError, match=r"^unit: expected a number in \[0, 2\), got 2"):
        units.split(params, channels(params, "conv1"), 2, 0.5)
