import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from random_networks import draw

from phenodl.embedding.affine import AffineInterval, steepest_interval
from phenodl.embedding.depth import approximate_lift, lift
from phenodl.embedding.networks import layers, preactivations, widths
from phenodl.models import mlp

INPUTS = np.random.default_rng(0).uniform(-1, 1, (3, 12))
SHAPE = (3, 3, 2)
LAYER = 1


@functools.partial(jax.jit, static_argnames=("activation", "width", "interval"))
def lifted(params, activation, width=None, interval=None):
    """Two lifts of one network, as a list."""

    def one(key):
        return lift(params, LAYER, INPUTS, activation, key=key, width=width, interval=interval)

    both = jax.vmap(one)(jax.random.split(jax.random.key(1)))
    return [jax.tree.map(lambda leaf, row=row: leaf[row], both) for row in range(2)]


@functools.partial(jax.jit, static_argnames=("activation", "center"))
def nearly_lifted(params, eps, activation, center):
    """One approximate lift for each ε, and the changes of the outputs."""

    def one(eps):
        key = jax.random.key(1)
        deeper = approximate_lift(params, LAYER, activation, eps, key=key, center=center)
        change = mlp.apply(deeper, INPUTS, activation) - mlp.apply(params, INPUTS, activation)
        return deeper, change

    return jax.vmap(one)(eps)


@pytest.mark.parametrize(
    ("activation", "width"),
    [(jax.nn.elu, None), (jax.nn.elu, 2), (jax.nn.hard_tanh, 5)],
    ids=["elu", "elu-narrow", "hard-tanh-wide"],
)
def test_outputs_and_the_two_equations(x64, activation, width):
    params = draw(SHAPE)
    expected = mlp.apply(params, INPUTS, activation)
    low, high, slope, intercept = steepest_interval(activation)
    old = layers(params)[LAYER]
    for deeper in lifted(params, activation, width):
        assert widths(deeper) == (3, 3, width or 3, 2)
        np.testing.assert_allclose(mlp.apply(deeper, INPUTS, activation), expected, atol=2e-13)
        z = np.asarray(preactivations(deeper, LAYER, INPUTS, activation))
        assert np.all((z > low) & (z < high))
        first, second = layers(deeper)[LAYER : LAYER + 2]
        product = second["weight"] @ first["weight"] * slope
        np.testing.assert_allclose(product, old["weight"], atol=1e-13)
        shift = second["weight"] @ (slope * first["bias"] + intercept) + second["bias"]
        np.testing.assert_allclose(shift, old["bias"], atol=1e-13)


def test_a_lower_half_line_and_a_falling_interval(x64):
    def own(z):
        return jnp.where(z < -1, 1 - 2 * z, 3 + jnp.tanh(z + 1))

    interval = AffineInterval(-np.inf, -1.0, slope=-2.0, intercept=1.0)
    params = draw(SHAPE)
    deeper, _ = lifted(params, own, interval=interval)
    assert preactivations(deeper, LAYER, INPUTS, own).max() < -1
    np.testing.assert_allclose(
        mlp.apply(deeper, INPUTS, own), mlp.apply(params, INPUTS, own), atol=2e-13
    )


def test_draws_differ_and_frames_are_orthonormal(x64):
    frames = [deeper["layer_1"]["weight"] for deeper in lifted(draw(SHAPE), jax.nn.elu)]
    for frame in frames:
        np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-14)
    assert jnp.abs(frames[0] - frames[1]).max() > 0.1


def test_gradient_and_hessian_are_pulled_back(x64):
    """At a critical point: targets off by a residual that is orthogonal to all tangents."""
    params = draw(SHAPE, seed=3)

    def outputs(point):
        return mlp.apply(point, INPUTS, jax.nn.elu).ravel()

    jacobian = ravel_columns(jax.jit(jax.jacfwd(outputs))(params))
    residual = np.linalg.svd(jacobian.T)[2][-1]
    assert np.abs(jacobian.T @ residual).max() < 1e-13
    targets = np.asarray(outputs(params)) + 0.5 * residual

    def curvature(point):
        flat, unravel = ravel_pytree(point)
        gradient = jax.grad(lambda theta: jnp.mean((outputs(unravel(theta)) - targets) ** 2))
        return jax.jit(lambda theta: (gradient(theta), jax.jacfwd(gradient)(theta)))(flat)

    gradient, hessian = curvature(params)
    assert np.linalg.norm(gradient) < 1e-14
    before = signs(hessian)
    gradient, hessian = curvature(lifted(params, jax.nn.elu)[0])
    assert np.linalg.norm(gradient) < 1e-12
    added = len(hessian) - sum(before)
    assert added > 0
    assert signs(hessian) == (before[0], before[1] + added, before[2])
    assert min(before[0], before[2]) > 0


def signs(matrix):
    """How many eigenvalues are negative, zero, positive."""
    values = np.linalg.eigvalsh(matrix)
    small = np.abs(values) < 1e-12 * np.abs(values).max()
    return ((values < 0) & ~small).sum(), small.sum(), ((values > 0) & ~small).sum()


def ravel_columns(tree):
    """A Jacobian by leaves as one matrix, (outputs, parameters)."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)], axis=1)


def test_lift_in_single_precision():
    params, inputs = draw(SHAPE), jnp.asarray(INPUTS, jnp.float32)
    deeper = jax.jit(lambda: lift(params, LAYER, inputs, jax.nn.elu, key=jax.random.key(0)))()
    assert {leaf.dtype for leaf in jax.tree.leaves(deeper)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(
        mlp.apply(deeper, inputs, jax.nn.elu), mlp.apply(params, inputs, jax.nn.elu), atol=1e-5
    )


@pytest.mark.parametrize(("center", "order"), [(0.0, 2), (0.5, 1)])
def test_order_of_an_approximate_lift(x64, center, order):
    eps = np.array([3e-3, 1e-3, 3e-4])
    _, change = nearly_lifted(draw(SHAPE), eps, mlp.tanh, center)
    error = np.abs(change).max((1, 2))
    slope = np.polyfit(np.log(eps), np.log(error), 1)[0]
    assert slope == pytest.approx(order, abs=0.02)


def test_error_of_an_approximate_lift_to_leading_order(x64):
    """(σ(ε u) / ε - u) -> ε² σ'''(0) u³ / 6 with σ'''(0) = -2 for tanh."""
    eps = np.array([3e-3, 1e-3, 3e-4])
    points, change = nearly_lifted(draw(SHAPE), eps, mlp.tanh, 0.0)
    deeper = jax.tree.map(lambda leaf: leaf[-1], points)
    u = np.asarray(preactivations(deeper, LAYER, INPUTS, mlp.tanh)) / eps[-1]
    second = np.asarray(deeper["layer_2"]["weight"]) * eps[-1]
    np.testing.assert_allclose(change[-1] / eps[-1] ** 2, second @ (-(u**3) / 3), atol=1e-4)


def test_refusals(x64):
    params, key = draw(SHAPE), jax.random.key(0)
    with pytest.raises(ValueError, match=r"^activation: tanh is affine on no interval"):
        lift(params, 0, INPUTS, jnp.tanh, key=key)
    with pytest.raises(ValueError, match=r"^layer: expected a number in \[0, 2\), got 2"):
        lift(params, 2, INPUTS, jax.nn.elu, key=key)
    with pytest.raises(ValueError, match=r"^width: expected at least 3"):
        lift(params, 0, INPUTS, jax.nn.elu, width=2, key=key)
    with pytest.raises(ValueError, match=r"^interval: the activation departs"):
        lift(params, 0, INPUTS, jax.nn.elu, interval=AffineInterval(-1.0, 1.0), key=key)
    with pytest.raises(ValueError, match=r"^params: expected"):
        lift({"weight": jnp.eye(3)}, 0, INPUTS, jax.nn.elu, key=key)
    without = {**params, "layer_1": {"weight": params["layer_1"]["weight"]}}
    with pytest.raises(ValueError, match=r"^params: expected a bias in layer_1"):
        lift(without, 1, INPUTS, jax.nn.elu, key=key)
    with pytest.raises(ValueError, match=r"^center: expected where the activation is not flat"):
        approximate_lift(params, 0, jax.nn.relu, 1e-3, center=-1.0, key=key)
    with pytest.raises(ValueError, match=r"^inputs: expected at least one data point"):
        lift(params, 1, INPUTS[:, :0], jax.nn.elu, key=key)
    for eps in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^eps: expected a positive finite number, got"):
            approximate_lift(params, 0, mlp.tanh, eps, key=key)
