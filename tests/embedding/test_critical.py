import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.data import functions
from phenodl.embedding import critical
from phenodl.models import mlp
from tests.oracles import numpy_network

TARGETS = 3


@functools.cache
def searched():
    """Staircases by a network with one unit, from four starts each; the last has one sharp step."""
    samples = [functions.staircase(seed) for seed in range(TARGETS)]
    targets = np.stack([*(y.T for _, y in samples), np.sign(samples[0][0].T)])
    with jax.enable_x64(True):
        problem = mlp.problem(*samples[0], hidden=[1])
        points = critical.search(
            problem, key=jax.random.key(0), seeds=range(4), instance={"targets": targets}, steps=80
        )
    return samples[0][0].T, targets, points


def test_accepted_points_are_critical_by_another_gradient():
    inputs, targets, points = searched()
    assert points.accepted.shape == (TARGETS + 1, 4)
    assert points.accepted[:TARGETS].all()
    for target in range(TARGETS):
        for seed in range(4):
            params = points.take((target, seed)).params
            grads = numpy_network.gradient(params, inputs, targets[target])
            assert np.linalg.norm(numpy_network.ravel(grads)) < 1e-13
            np.testing.assert_allclose(
                numpy_network.loss(params, inputs, targets[target]), points.loss[target, seed]
            )


def test_the_search_goes_to_the_best_fit_of_one_unit():
    # The output weight and bias of a best fit are least squares: what is left is a grid over the
    # unit itself.
    inputs, targets, points = searched()
    slopes, biases = (each.ravel() for each in np.mgrid[0.2:6:150j, -4:4:161j])
    targets, loss = targets[:TARGETS], points.loss[:TARGETS]
    units = np.tanh(slopes[:, None] * inputs + biases[:, None])
    units -= units.mean(axis=1, keepdims=True)
    explained = (units @ targets[:, 0].T / inputs.size) ** 2 / np.mean(units**2, 1)[:, None]
    best = 1 - explained.max(axis=0)  # of targets with mean 0 and variance 1
    assert (loss <= best[:, None]).all()
    np.testing.assert_allclose(loss, np.broadcast_to(best[:, None], (TARGETS, 4)), rtol=1e-2)


def test_unbounded_points_are_not_accepted():
    # A vertical step is fitted the better the larger the weight is: no minimum to come to.
    *_, points = searched()
    assert (points.loss[TARGETS] < 1e-6).all()
    assert (points.norm[TARGETS] > 30).all()
    assert not points.accepted[TARGETS].any()


def test_polish_finds_minima_saddles_and_valleys(x64):
    def landscape(x):  # minima at ±1 and a saddle at 0 along x_0, a valley along x_2
        return (x[0] ** 2 - 1) ** 2 + x[1] ** 2 + 0 * x[2]

    starts = jnp.array([[1.2, 0.3, 5.0], [0.1, -0.3, 5.0], [-0.9, 0.0, -2.0]])
    points = jax.jit(jax.vmap(lambda start: critical.polish(landscape, start)))(starts)
    assert points.accepted.all()
    expected = [[1, 0, 5], [0, 0, 5], [-1, 0, -2]]
    np.testing.assert_allclose(points.params, expected, atol=1e-12)
    np.testing.assert_allclose(points.loss, [0, 1, 0], atol=1e-15)


def test_what_is_not_critical_is_refused(x64):
    with pytest.raises(ValueError, match=r"gradient norm at most 1e-12, got 0\.6; polish it first"):
        critical.require_critical(lambda x: x["a"] @ x["a"], {"a": jnp.array([0.3, 0.0])})
    critical.require_critical(lambda x: x["a"] @ x["a"], {"a": jnp.array([1e-13, 0.0])})
    with pytest.raises(ValueError, match="gradient norm"):
        critical.require_critical(lambda x: jnp.log(x), jnp.array(-1.0) * jnp.nan)


def test_single_precision_is_refused():
    problem = mlp.problem(jnp.ones((3, 1)), jnp.ones((3, 1)), hidden=[1])
    with pytest.raises(ValueError, match="double precision"):
        critical.search(problem, key=jax.random.key(0), seeds=[0])
    with pytest.raises(ValueError, match=r"^tolerance: expected at least 1.2e-07"):
        critical.polish(lambda x: x**2, jnp.float32(1.0))


def test_a_tolerance_can_suit_single_precision():
    point = critical.polish(lambda x: jnp.cosh(x - 0.3), jnp.float32(0.0), tolerance=1e-6)
    assert point.params.dtype == jnp.float32
    assert bool(point.accepted)
