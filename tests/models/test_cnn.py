"""The convolutional network against XLA's own convolution and pooling, and dense derivatives."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.compiler import QUICKLY
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
    """Images, and parameters of the size of the initial ones."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=shape).astype(dtype)
    make = functools.partial(cnn.init, image_shape=shape[1:], dtype=dtype, **sizes)
    shapes = jax.eval_shape(make, jax.random.key(1))

    def draw(leaf):
        return jnp.asarray(rng.normal(0, 0.3 / len(leaf.shape), leaf.shape), dtype)

    return images, jax.tree.map(draw, shapes)


def quickly(function):
    return jax.jit(function, compiler_options=dict(QUICKLY))


OUTPUTS = quickly(reference)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((7, 8, 8, 1), {}), ((3, 12, 8, 2), {"channels": (3, 5), "hidden": 6, "outputs": 4})],
)
@pytest.mark.parametrize("convolution", get_args(cnn.Convolution))
def test_outputs_are_those_of_lax_convolutions(x64, shape, sizes, convolution):
    images, params = example(shape, np.float64, **sizes)
    arranged = cnn.arrange(images, convolution)
    outputs = quickly(lambda params: cnn.apply(params, arranged, convolution))(params)
    np.testing.assert_allclose(outputs, OUTPUTS(params, images), rtol=1e-12, atol=1e-14)


@functools.partial(jax.jit, static_argnums=0, compiler_options=dict(QUICKLY))
def derivatives(network, params, inputs):
    """The gradient of the summed squares of the outputs, and the Hessian along cos params."""

    def loss(params):
        return jnp.sum(network(params, inputs) ** 2)

    return jax.jvp(jax.grad(loss), (params,), (jax.tree.map(jnp.cos, params),))


@pytest.mark.parametrize("convolution", get_args(cnn.Convolution))
def test_gradient_and_curvature_are_those_of_lax_convolutions(x64, convolution):
    images, params = example((6, 8, 8, 1), np.float64)
    arranged = cnn.arrange(images, convolution)

    def network(params, images):
        return cnn.apply(params, images, convolution)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
        derivatives(network, params, arranged),
        derivatives(reference, params, images),
    )


def product(loss, params):
    """The Hessian times the parameters themselves."""
    _, hvp = jax.linearize(jax.grad(loss), params)
    return hvp(params)


@quickly
def two_products(params, images, labels):
    """One after the other, each at the result of the last."""

    def squared_error(params):
        return jnp.mean((reference(params, images) - labels) ** 2)

    return product(squared_error, product(squared_error, params))


@pytest.mark.parametrize("convolution", get_args(cnn.Convolution))
def test_curvature_of_many_runs_in_a_loop(x64, convolution):
    """What the engine does: a linearized gradient under vmap inside a scan."""
    images, params = example((3, 8, 8, 1), np.float64, channels=(2, 3), hidden=4)
    labels = np.eye(3, 10)
    model = cnn.problem(images, labels, convolution=convolution)
    runs = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)

    @quickly
    def in_a_loop(runs):
        def step(runs, _):
            return jax.vmap(lambda p: product(lambda q: model.loss(q, model.data), p))(runs), None

        return jax.lax.scan(step, runs, None, length=2)[0]

    looped = in_a_loop(runs)
    for number in range(2):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], runs)
        jax.tree.map(
            lambda a, b, number=number: np.testing.assert_allclose(a[number], b, 1e-9, 1e-12),
            looped,
            two_products(one, images, labels),
        )


def test_the_activation_is_the_one_asked_for():
    """Without one, the network is linear in its images, and so is its loss in the squared ones."""
    images = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)
    model = cnn.problem(images, np.zeros((4, 3), np.float32), activation=lambda x: x)
    _, params = example((4, 8, 8, 1), np.float32, outputs=3)
    unbiased = {
        name: {**layer, "bias": np.zeros_like(layer["bias"])} for name, layer in params.items()
    }

    @quickly
    def loss(size):
        return model.loss(unbiased, {**model.data, "images": size * model.data["images"]})

    assert float(loss(3.0)) == pytest.approx(9 * float(loss(1.0)), rel=1e-5)


@pytest.mark.parametrize("convolution", get_args(cnn.Convolution))
def test_a_mini_batch_is_a_selection_of_images(convolution):
    images, params = example((6, 8, 8, 1), np.float32)
    arranged = cnn.arrange(images, convolution)
    chosen = np.array([4, 1])
    both = quickly(
        lambda arranged: (
            cnn.apply(params, arranged[..., chosen], convolution),
            cnn.apply(params, arranged, convolution)[chosen],
        )
    )
    np.testing.assert_allclose(*both(arranged), rtol=1e-5)


def test_mini_batches_are_drawn_without_replacement_and_keep_their_labels():
    images = np.random.default_rng(0).normal(size=(9, 8, 8)).astype(np.float32)
    labels = np.eye(9, dtype=np.float32)
    model = cnn.problem(images, labels, batch_size=5, convolution="xla")
    draw = jax.jit(lambda key: model.batch(model.data, key, jnp.zeros((), int)))
    seen = []
    for key in jax.random.split(jax.random.key(0), 4):
        batch = draw(key)
        chosen = np.asarray(batch["labels"]).argmax(axis=1)
        assert len(set(chosen.tolist())) == 5
        np.testing.assert_array_equal(np.moveaxis(batch["images"], -1, 0)[:, 0], images[chosen])
        seen.append(tuple(chosen.tolist()))
    assert len(set(seen)) == 4


def test_on_a_cpu_patches_are_the_default():
    images, labels = np.zeros((2, 8, 8), np.float32), np.eye(2, dtype=np.float32)
    assert jax.default_backend() == "cpu"
    assert cnn.problem(images, labels).data["images"].shape == (9, 8, 8, 2)
    assert cnn.problem(images, labels, convolution="xla").data["images"].shape == (1, 8, 8, 2)


def test_initial_parameters_fill_the_interval_of_their_layer():
    params = jax.jit(lambda key: cnn.init(key, (8, 8, 1), dtype=np.float32))(jax.random.key(1))
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
    _, params = example((5, 8, 8, 1), np.float32)
    outputs = OUTPUTS(params, images[..., None])
    expected = np.square(np.asarray(outputs) - labels).mean()
    loss = quickly(model.loss)(params, model.data)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((2, 6, 8), {}, r"images: expected a height and width divisible by 4, got \(6, 8\)"),
        ((64, 64), {}, r"images: expected \(n, height, width\) or .*, got \(64, 64\)"),
        ((2, 0, 8), {}, "images: expected .*, no axis empty"),
        ((0, 8, 8), {}, "images: expected .*, no axis empty"),
        ((3, 8, 8), {}, r"labels: expected a row per image, \(3, outputs\), .* got shape \(2, 2\)"),
        ((2, 8, 8), {"labels": np.ones(2)}, r"labels: .* one-hot for classes; got shape \(2,\)"),
        ((2, 8, 8), {"channels": (8,)}, r"channels and hidden: .* got \(8,\), 32"),
        ((2, 8, 8), {"channels": (8, 0)}, r"channels and hidden: .* got \(8, 0\), 32"),
        ((2, 8, 8), {"hidden": 0}, r"channels and hidden: .* got \(8, 16\), 0"),
        ((2, 8, 8), {"batch_size": 3}, r"batch_size must be in \[1, 2\], .* got 3"),
        ((2, 8, 8), {"batch_size": 0}, r"batch_size must be in \[1, 2\], .* got 0"),
        ((2, 8, 8), {"convolution": "fft"}, "convolution must be one of patches, xla, got 'fft'"),
    ],
)
def test_bad_arguments_are_named(shape, changes, message):
    with pytest.raises(ValueError, match=message):
        cnn.problem(np.zeros(shape, np.float32), **{"labels": np.eye(2), **changes})


def test_pixels_as_integers_are_refused():
    with pytest.raises(ValueError, match=r"images: expected floating numbers, .* got uint8"):
        cnn.problem(np.zeros((2, 8, 8), np.uint8), np.eye(2))
