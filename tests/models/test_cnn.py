"""The convolutional network against XLA's own convolution and pooling, and dense derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.models import cnn


def reference(params, images):
    """The same network with lax.conv_general_dilated and lax.reduce_window, images first."""

    def convolve(layer, x):
        out = jax.lax.conv_general_dilated(
            x, layer["weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        out = jax.nn.relu(out + layer["bias"][None, None, None])
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(out, 0.0, jax.lax.add, window, window, "VALID") / 4

    x = convolve(params["conv2"], convolve(params["conv1"], images))
    x = x.transpose(0, 3, 1, 2).reshape(len(images), -1)
    x = jax.nn.relu(x @ params["dense1"]["weight"] + params["dense1"]["bias"][None])
    return x @ params["dense2"]["weight"] + params["dense2"]["bias"][None]


def example(shape, dtype, **sizes):
    images = np.random.default_rng(0).normal(size=shape).astype(dtype)
    patches = cnn.image_patches(images)
    make = jax.jit(lambda key: cnn.init(key, patches.shape, dtype=dtype, **sizes))
    return images, patches, make(jax.random.key(1))


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((7, 8, 8, 1), {}), ((3, 12, 8, 2), {"channels": (3, 5), "hidden": 6, "outputs": 4})],
)
def test_outputs_are_those_of_lax_convolutions(x64, shape, sizes):
    images, patches, params = example(shape, np.float64, **sizes)
    outputs = jax.jit(cnn.apply)(params, patches)
    np.testing.assert_allclose(outputs, jax.jit(reference)(params, images), rtol=1e-12, atol=1e-14)


def test_gradient_and_curvature_are_those_of_lax_convolutions(x64):
    images, patches, params = example((6, 8, 8, 1), np.float64)
    tangent = jax.tree.map(jnp.cos, params)

    @jax.jit
    def derivatives(params):
        def along(network, inputs):
            def loss(params):
                return jnp.sum(network(params, inputs) ** 2)

            return jax.jvp(jax.grad(loss), (params,), (tangent,))

        return along(cnn.apply, patches), along(reference, images)

    ours, theirs = derivatives(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), *(ours, theirs)
    )


def test_a_mini_batch_is_a_selection_of_patches():
    _, patches, params = example((6, 8, 8, 1), np.float32)
    chosen = jnp.array([4, 1])
    outputs = jax.jit(lambda batch: cnn.apply(params, batch))
    np.testing.assert_allclose(outputs(patches[..., chosen]), outputs(patches)[chosen], rtol=1e-5)


def test_initial_parameters_fill_the_interval_of_their_layer():
    *_, params = example((2, 8, 8, 1), np.float32)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 3658
    for name, fan_in in {"conv1": 9, "conv2": 72, "dense1": 64, "dense2": 32}.items():
        draws = np.concatenate([np.ravel(leaf) for leaf in params[name].values()])
        bound = fan_in**-0.5
        assert np.abs(draws).max() <= bound
        # Of N uniform draws the most extreme is about bound (1 - 1/N); the mean is normal.
        assert np.abs(draws).max() > bound * (1 - 10 / draws.size)
        assert abs(draws.mean()) < 4 * bound / np.sqrt(3 * draws.size)


def test_problem_is_the_mean_squared_error_over_images_and_classes():
    images = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    labels = np.eye(5, 10, dtype=np.float32)
    model = cnn.problem(images, labels)
    params = jax.jit(lambda key: model.init(key, model.data, {}))(jax.random.key(0))

    outputs = jax.jit(reference)(params, images[..., None])
    expected = np.square(np.asarray(outputs) - labels).mean()
    loss = jax.jit(lambda params: model.loss(params, model.data))(params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"images: expected a height and width divisible by 4"):
        cnn.image_patches(np.zeros((2, 6, 8), np.float32))
    with pytest.raises(ValueError, match="labels: expected one per image, 2 in all, got 3"):
        cnn.problem(np.zeros((2, 8, 8), np.float32), np.zeros((3, 10), np.float32))
