import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matfree import decomp
from networks import dense_hessian, network

from phenodl.curvature import (
    Spectrum,
    cold_start,
    eigenpairs,
    hessian,
    moments,
    smoothed_density,
    spectrum,
)

pytestmark = pytest.mark.usefixtures("x64")


def test_first_four_moments_of_a_network_within_five_percent():
    params, loss = network(0, np.float64)

    @jax.jit
    def measure(params, key):
        matvec = hessian(loss, params)
        outliers = [
            eigenpairs(matvec, cold_start(params, k), which=which)
            for k, which in ((6, "largest"), (3, "smallest"))
        ]
        return moments(spectrum(matvec, key, params, vectors=32, outliers=outliers), 4)

    matrix = dense_hessian(loss, params)
    expected = [np.trace(np.linalg.matrix_power(matrix, p)) / len(matrix) for p in (1, 2, 3, 4)]
    for seed in range(3):
        np.testing.assert_allclose(measure(params, jax.random.key(seed)), expected, rtol=0.05)


def test_moments_of_a_matrix_without_outliers():
    random = np.random.default_rng(0)
    matrix = random.standard_normal((300, 300))
    matrix = (matrix + matrix.T) / np.sqrt(1200) + np.eye(300)
    matvec = lambda x: jnp.matmul(jnp.asarray(matrix), x)
    points = jax.jit(lambda key: spectrum(matvec, key, jnp.zeros(300), vectors=64))(
        jax.random.key(0)
    )
    values = np.linalg.eigvalsh(matrix)
    expected = [(values**p).mean() for p in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments(points, 4), expected, rtol=0.05)
    assert points.weights.sum() == pytest.approx(1, abs=1e-12)


def test_nodes_and_weights_of_one_vector_equal_those_from_matfree():
    """The eigenvalues of the tridiagonal matrix of an independent Lanczos, from the same start."""
    random = np.random.default_rng(1)
    matrix = random.standard_normal((20, 20))
    matrix = jnp.asarray(matrix + matrix.T)
    matvec = lambda x: jnp.matmul(matrix, x)
    key = jax.random.key(3)
    ours = spectrum(matvec, key, jnp.zeros(20), vectors=1, steps=6)
    start = jax.random.normal(jax.random.split(key, 1)[0], (20,))
    tridiagonal = decomp.tridiag_sym(6, materialize=True, reortho="full")(matvec, start).J_small
    nodes, vectors = np.linalg.eigh(tridiagonal)
    np.testing.assert_allclose(ours.nodes[::-1], nodes, atol=1e-6)
    np.testing.assert_allclose(ours.weights[::-1], vectors[0] ** 2, atol=1e-6)


def test_quadrature_is_exact_once_the_steps_reach_the_dimension():
    values = jnp.array([-1.0, 0.5, 2.0, 2.0, 4.0])
    points = spectrum(lambda x: values * x, jax.random.key(0), values, vectors=1, steps=30)
    present = np.unique(values)
    distance = np.abs(np.asarray(points.nodes)[:, None] - present).min(1)
    assert points.nodes.shape == (5,)
    assert distance[np.asarray(points.weights) > 1e-8].max() < 1e-8


def test_smoothed_density_integrates_to_one_and_finds_the_peaks():
    points = Spectrum(jnp.array([-1.0, 2.0]), jnp.array([0.25, 0.75]))
    grid = jnp.linspace(-5, 6, 2201)
    values = smoothed_density(points, grid, 0.2)
    assert float(jax.scipy.integrate.trapezoid(values, grid)) == pytest.approx(1, abs=1e-9)
    assert float(grid[jnp.argmax(values)]) == pytest.approx(2)
    peak = 0.25 / (0.2 * np.sqrt(2 * np.pi))
    assert float(values[jnp.argmin(jnp.abs(grid + 1))]) == pytest.approx(peak)


def test_not_finite_and_bad_arguments():
    like = jnp.zeros(4)
    points = spectrum(lambda x: jnp.nan * x, jax.random.key(0), like, vectors=2)
    assert np.isnan(points.nodes).all()
    with pytest.raises(ValueError, match="vectors and steps must be at least 1"):
        spectrum(lambda x: x, jax.random.key(0), like, steps=0)
    everything = eigenpairs(lambda x: x, cold_start(like, 4))
    with pytest.raises(ValueError, match="outliers: 4 leave nothing"):
        spectrum(lambda x: x, jax.random.key(0), like, outliers=[everything])
