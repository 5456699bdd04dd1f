import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from networks import SIZE, dense_hessian, network, positive

from phenodl.curvature import cold_start, eigenpairs, hessian, lanczos, preconditioned
from phenodl.models import factorization

TOLERANCE = {np.float32: 1e-4, np.float64: 1e-10}


def extremes(matrix, k, which):
    """The k extreme eigenvalues of a dense matrix, the most extreme first."""
    values = np.linalg.eigh(np.asarray(matrix, np.float64))[0]
    return values[::-1][:k] if which == "largest" else values[:k]


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def flat_rows(vectors):
    rows = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(vectors)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in rows], axis=1)


def multiply(matrix):
    return lambda vector: jnp.matmul(jnp.asarray(matrix), vector)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("k", "which", "restarted"),
    [
        (1, "largest", False),
        (2, "smallest", False),
        (3, "smallest", True),
        (4, "largest", True),
    ],
)
def test_eigenpairs_of_random_networks_equal_dense_ones(x64, dtype, k, which, restarted):
    """Four networks at once, two of them with the plain Hessian, two preconditioned."""
    _, loss = network(0, dtype)
    networks = [network(seed, dtype)[0] for seed in range(4)]
    ones = jax.tree.map(jnp.ones_like, networks[0])
    diagonals = [ones, ones, positive(2, ones), positive(3, ones)]
    tolerance = TOLERANCE[dtype]

    def solve(params, diagonal):
        matvec = preconditioned(hessian(loss, params), diagonal, dtype(0.2))
        options = {"which": which, "tolerance": tolerance}
        if restarted:
            return eigenpairs(matvec, cold_start(params, k), basis_size=12 + k, **options)
        return lanczos(matvec, cold_start(params, k), products=SIZE, **options)

    solutions = jax.jit(jax.vmap(solve))(stack(networks), stack(diagonals))
    for number, (params, diagonal) in enumerate(zip(networks, diagonals, strict=True)):
        pairs = jax.tree.map(lambda leaf, number=number: np.asarray(leaf[number]), solutions)
        root = np.sqrt(ravel_pytree(diagonal)[0])
        matrix = 0.2 * dense_hessian(loss, params) * np.outer(root, root)
        assert pairs.values.dtype == dtype
        assert pairs.converged.all()
        np.testing.assert_allclose(pairs.values, extremes(matrix, k, which), rtol=tolerance)
        vectors = flat_rows(pairs.vectors)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=tolerance)
        norms = np.linalg.norm(vectors @ matrix - pairs.values[:, None] * vectors, axis=1)
        np.testing.assert_allclose(pairs.residuals, norms, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_eigenvector_as_start_does_not_end_the_search(x64, dtype):
    """Regression: the remainder of the first product is zero, and normalising it gave NaN."""
    diagonal = jnp.asarray([3.0, 7.0, -1.0, 2.0, 5.0], dtype)
    for position in range(5):
        start = jnp.eye(5, dtype=dtype)[None, position]
        pairs = lanczos(lambda x: diagonal * x, start, products=5)
        np.testing.assert_allclose(pairs.values, [7.0], rtol=TOLERANCE[dtype])
        assert pairs.converged.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_disconnected_factorization_from_a_start_on_one_block(x64, dtype):
    """Regression: rounding noise inside the exhausted block was mistaken for new directions."""
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = mask[2:, 2:] = True
    random = np.random.default_rng(0)
    data = {"mask": mask, "target": jnp.asarray(random.standard_normal((4, 4)), dtype)}
    first, second = np.diag([1.0, 1.0, 2.0, 2.0]), np.diag([1.0, 1.0, 2.0, 2.0])
    factors = factorization.Factors(
        jnp.asarray(first @ random.standard_normal((4, 4)), dtype),
        jnp.asarray(random.standard_normal((4, 4)) @ second, dtype),
    )

    def loss(factors):
        return factorization.squared_loss(factors, data)

    matrix = dense_hessian(loss, factors)
    small = np.r_[0:8, 16:18, 20:22, 24:26, 28:30]  # rows 0, 1 of A and columns 0, 1 of B
    large = np.setdiff1d(np.arange(32), small)
    assert not matrix[np.ix_(small, large)].any()
    expected = extremes(matrix, 1, "largest")
    assert expected > 1.5 * extremes(matrix[np.ix_(small, small)], 1, "largest")

    inside = np.isin(np.arange(32), small).astype(dtype) * random.standard_normal(32).astype(dtype)
    _, unravel = ravel_pytree(factors)
    start = jax.tree.map(lambda leaf: leaf[None], unravel(jnp.asarray(inside)))

    @jax.jit
    def measure(factors):
        matvec = hessian(loss, factors)
        return lanczos(matvec, start, products=32), lanczos(matvec, start, products=26)

    for pairs in measure(factors):
        np.testing.assert_allclose(pairs.values, expected, rtol=TOLERANCE[dtype])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("products", [40, 100])
def test_products_beyond_the_dimension_are_harmless(products):
    matrix = np.random.default_rng(0).standard_normal((12, 12))
    matrix += matrix.T
    pairs = lanczos(multiply(matrix), cold_start(jnp.zeros(12), 2), products=products)
    np.testing.assert_allclose(pairs.values, extremes(matrix, 2, "largest"), rtol=1e-12)
    assert pairs.products == 12


@pytest.mark.usefixtures("x64")
def test_useless_starts_are_replaced():
    matrix = np.random.default_rng(1).standard_normal((9, 9))
    matrix += matrix.T
    expected = extremes(matrix, 3, "smallest")
    row = np.arange(9.0)
    starts = {
        "duplicate": [row, row, 2 * row],
        "zero": [row, 0 * row, 0 * row],
        "not finite": [row + np.nan, row + np.inf, row],
        "overflowing": [1e300 * row, 1e-300 * row, row],
    }
    for name, start in starts.items():
        pairs = lanczos(multiply(matrix), jnp.asarray(start), products=9, which="smallest")
        np.testing.assert_allclose(pairs.values, expected, rtol=1e-12, err_msg=name)


@pytest.mark.usefixtures("x64")
@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(-3, 3), min_size=6, max_size=6),
    st.lists(st.integers(-2, 2), min_size=6, max_size=6),
)
def test_repeated_and_zero_eigenvalues(values, start):
    """Few distinct eigenvalues exhaust every Krylov space early."""
    diagonal, start = jnp.asarray(values, float), jnp.asarray([start], float)
    pairs = spread(diagonal, start)
    np.testing.assert_allclose(pairs.values, sorted(values)[:-3:-1], atol=1e-12)
    assert pairs.converged.all()


@jax.jit
def spread(diagonal, start):
    start = jnp.concatenate([start, start])
    return lanczos(lambda x: diagonal * x, start, products=6)


@pytest.mark.usefixtures("x64")
def test_not_finite_operators_answer_nan_and_recover():
    matrix = np.diag(np.arange(30.0))
    broken = matrix.copy()
    broken[3, 4] = np.nan
    start = cold_start(jnp.zeros(30), 2)

    @jax.jit
    def both(matrix, start):
        matvec = multiply(matrix)
        return lanczos(matvec, start, products=30), eigenpairs(matvec, start)

    for pairs in both(broken, start):
        assert np.isnan(pairs.values).all()
        assert not pairs.converged.any()
        for again in both(matrix, pairs.vectors):
            np.testing.assert_allclose(again.values, [29.0, 28.0], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_budget_that_is_too_small_says_so():
    values = 1 - 1 / jnp.arange(1.0, 2001.0)  # crowded at the upper end
    pairs = eigenpairs(
        lambda x: values * x, cold_start(values), tolerance=1e-12, max_products=60, basis_size=10
    )
    assert not pairs.converged.any()
    assert 60 <= pairs.products < 70
    assert abs(pairs.values[0] - 1) < pairs.residuals[0] + 1 / 2000


def mini_batches(key, step, warm):
    """A network that learns from a stream of mini-batches, its eigenvalue followed or not."""
    random = np.random.default_rng(0)
    inputs = jnp.asarray(random.standard_normal((400, 3)), jnp.float32)
    targets = jnp.sin(inputs.sum(1))
    params = {
        "in": jax.random.normal(key, (3, 8)),
        "out": jax.random.normal(key, (8,)) / jnp.sqrt(8.0),
    }

    def move(carry, number):
        params, start = carry
        rows = jax.random.choice(jax.random.fold_in(key, number), 400, (100,))
        predict = lambda params: jnp.matmul(
            jnp.tanh(jnp.matmul(inputs[rows], params["in"])), params["out"]
        )
        loss = lambda params: ((predict(params) - targets[rows]) ** 2).mean()
        matvec = hessian(loss, params)
        pairs = lanczos(matvec, start, products=3)
        reference = lanczos(matvec, cold_start(params), products=20)
        params = jax.tree.map(lambda p, g: p - step * g, params, jax.grad(loss)(params))
        start = pairs.vectors if warm else start
        return (params, start), jnp.stack([pairs.values[0], reference.values[0]])

    return jax.lax.scan(move, (params, cold_start(params, 2)), jnp.arange(60))[1]


def test_warm_start_follows_a_stream_of_mini_batches_under_vmap():
    keys = jax.random.split(jax.random.key(0), 4)
    errors = {}
    for warm in (False, True):
        run = lambda key, warm=warm: mini_batches(key, 0.02, warm)
        ours, reference = np.moveaxis(np.asarray(jax.jit(jax.vmap(run))(keys)), -1, 0)
        errors[warm] = np.median(np.abs(ours / reference - 1)[:, 5:])
    assert errors[True] < 0.01
    assert errors[False] > 5 * errors[True]


@pytest.mark.usefixtures("x64")
def test_jit_vmap_and_scan_agree_with_one_call_each():
    random = np.random.default_rng(2)
    matrices = random.standard_normal((3, 15, 15))
    matrices = jnp.asarray(matrices + matrices.transpose(0, 2, 1))
    start = cold_start(jnp.zeros(15), 2)

    def measure(matrix):
        matvec = multiply(matrix)
        fixed = lanczos(matvec, start, products=9)
        return fixed.values, eigenpairs(matvec, start, basis_size=10).values

    compiled = jax.jit(measure)
    single = stack([compiled(matrix) for matrix in matrices])
    batched = jax.jit(jax.vmap(measure))(matrices)
    scanned = jax.jit(lambda matrices: jax.lax.map(measure, matrices))(matrices)
    for ours in (batched, scanned):
        np.testing.assert_allclose(ours[0], single[0], rtol=1e-10)
        np.testing.assert_allclose(ours[1], single[1], rtol=1e-10)


def test_bad_arguments():
    matvec, start = multiply(np.eye(3, dtype=np.float32)), cold_start(jnp.zeros(3), 2)
    with pytest.raises(ValueError, match="products: 1 in dimension 3 cannot give 2"):
        lanczos(matvec, start, products=1)
    with pytest.raises(ValueError, match="which: expected 'largest' or 'smallest'"):
        lanczos(matvec, start, products=3, which="both")
    with pytest.raises(ValueError, match="basis_size: 2 in dimension 3"):
        eigenpairs(matvec, start, basis_size=2)


@jax.jit
def at_scale(scale):
    """float32 operators 1 to 100 times a scale: not solved, solved, solved densely."""
    values = scale * jnp.arange(1.0, 101.0)
    start = cold_start(values)
    matvec = lambda x: values * x
    few, all_of_them = (lanczos(matvec, start, products=products) for products in (5, 100))
    return few, eigenpairs(matvec, start), all_of_them


@pytest.mark.parametrize("scale", [1e-34, 1e-20, 1e-12, 1.0, 1e18, 1e33])
def test_operators_whose_squares_leave_the_range_of_float32(scale):
    few, restarted, whole = at_scale(jnp.float32(scale))
    assert not few.converged.any()
    np.testing.assert_allclose(few.residuals / scale, 6.279, rtol=1e-3)
    for pairs in (restarted, whole):
        assert pairs.converged.all()
        assert (pairs.residuals > 0).all()
        assert (pairs.residuals < 0.05 * scale).all()
        np.testing.assert_allclose(pairs.values, [100 * scale], rtol=1e-5)


def test_an_operator_beyond_the_range_has_not_converged():
    for pairs in at_scale(jnp.float32(3e38)):
        assert not pairs.converged.any()
