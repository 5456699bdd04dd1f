import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.models import factorization
from phenodl.models.factorization import Factors
from phenodl.protocol import Objective, value_and_grad

ROWS, COLUMNS, INNER, RUNS = 5, 4, 3, 6


@pytest.fixture
def block(x64):
    """Factors, targets and masks of several runs, the runs along the last axis."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((ROWS, INNER, RUNS)), rng.standard_normal((INNER, COLUMNS, RUNS))
    factors = Factors(jnp.asarray(a), jnp.asarray(b))
    target = rng.standard_normal((ROWS, COLUMNS, RUNS))
    mask = rng.random((ROWS, COLUMNS, RUNS)) < 0.6
    target = np.where(mask, target, np.nan)  # unobserved entries may hold anything
    return factors, {"target": jnp.asarray(target), "mask": jnp.asarray(mask)}


def run(tree, number):
    return jax.tree.map(lambda leaf: leaf[..., number], tree)


def test_product_and_stack_of_one_run_and_of_a_block(block):
    factors, _ = block
    products = np.asarray(factorization.product(factors))
    for number in range(RUNS):
        one = run(factors, number)
        expected = np.asarray(one.A) @ np.asarray(one.B)
        np.testing.assert_allclose(products[..., number], expected, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(factorization.product(one), expected, rtol=1e-13, atol=1e-13)
    stacked = factorization.stacked(factors)
    np.testing.assert_array_equal(stacked[ROWS:, :, 2], factors.B[..., 2].T)
    np.testing.assert_array_equal(stacked[:ROWS], factors.A)


def huber(w, m):
    pull = np.clip(w - m, -1, 1)
    return pull * (w - m) - 0.5 * pull**2, pull


# Of each entry loss, by NumPy: the loss and its derivative in w.
ENTRY_LOSSES = {
    factorization.squared_error: lambda w, m: (0.5 * (w - m) ** 2, w - m),
    factorization.huber: huber,
    factorization.logistic: lambda w, m: (np.log1p(np.exp(-m * w)), -m / (1 + np.exp(m * w))),
}


@pytest.mark.parametrize("entry_loss", ENTRY_LOSSES)
def test_loss_and_gradient_against_matrix_calculus(block, entry_loss):
    factors, data = block

    @jax.jit
    def evaluate(factors, data):
        loss = factorization.problem(entry_loss=entry_loss).loss
        return value_and_grad(lambda factors: loss(factors, data))(factors)

    of_block = evaluate(factors, data)
    for number in range(RUNS):
        a, b = (np.asarray(leaf) for leaf in run(factors, number))
        errors, slope = ENTRY_LOSSES[entry_loss](a @ b, np.asarray(data["target"])[..., number])
        slope = np.nan_to_num(slope, nan=0.0)
        for loss, grads in (run(of_block, number), evaluate(*run(block, number))):
            np.testing.assert_allclose(loss, np.nansum(errors), rtol=1e-13)
            np.testing.assert_allclose(grads.A, slope @ b.T, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(grads.B, a.T @ slope, rtol=1e-12, atol=1e-12)


def test_imbalance_of_one_run_and_of_a_block(block):
    factors, _ = block
    imbalances = factorization.imbalance(factors)
    for number in range(RUNS):
        one = run(factors, number)
        a, b = (np.asarray(leaf) for leaf in one)
        expected = a.T @ a - b @ b.T
        np.testing.assert_allclose(imbalances[..., number], expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(factorization.imbalance(one), expected, rtol=1e-12, atol=1e-12)


def test_mean_loss_counts_observed_entries_per_run(block):
    _, data = block
    loss = jnp.arange(1.0, RUNS + 1)
    observed = np.asarray(data["mask"]).sum((0, 1))
    mean = factorization.mean_loss(loss, data["mask"])
    np.testing.assert_allclose(mean, np.arange(1, RUNS + 1) / observed, rtol=1e-15)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_init_draws_gaussian_factors(x64, dtype):
    data = {"target": jnp.zeros((60, 50), dtype), "mask": jnp.ones((60, 50), bool)}
    hyper = {"init_std": jnp.asarray(1e-8, dtype)}
    init = jax.jit(factorization.problem().init)
    factors = init(jax.random.key(1), data, hyper)
    assert factors.A.shape == (60, 50)
    assert factors.B.shape == (50, 50)
    assert {leaf.dtype for leaf in factors} == {jnp.dtype(dtype)}
    samples = np.concatenate([np.ravel(leaf) for leaf in factors]) / 1e-8
    # Standard errors of mean, variance and fourth moment of 5,500 standard normal numbers.
    assert abs(samples.mean()) < 4 / np.sqrt(samples.size)
    assert abs(np.mean(samples**2) - 1) < 4 * np.sqrt(2 / samples.size)
    assert abs(np.mean(samples**4) - 3) < 4 * np.sqrt(96 / samples.size)
    other = init(jax.random.key(2), data, hyper)
    independent = [factors.A[:50], factors.B, other.A[:50], other.B]
    correlation = np.corrcoef([np.ravel(leaf) for leaf in independent]) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(2500)


def test_inner_width_is_free():
    data = {"target": jnp.zeros((4, 6)), "mask": jnp.ones((4, 6), bool)}
    for inner_width, expected in [(None, 4), (1, 1), (9, 9)]:
        problem = factorization.problem(inner_width)
        hyper = {"init_std": jnp.array(1.0)}
        factors = jax.eval_shape(problem.init, jax.random.key(0), data, hyper)
        assert factors.A.shape == (4, expected)
        assert factors.B.shape == (expected, 6)


def test_safe_step_bounds_the_largest_hessian_eigenvalue(x64):
    rng = np.random.default_rng(3)
    step_size = factorization.safe_step(0.7)

    @jax.jit
    def measure(flat, batch):
        def loss(flat):
            parameters = Factors(flat[:12].reshape(4, 3), flat[12:].reshape(3, 4))
            return factorization.squared_loss(parameters, batch)

        parameters = Factors(flat[:12].reshape(4, 3), flat[12:].reshape(3, 4))
        value, gradient = jax.value_and_grad(loss)(flat)
        h = step_size(Objective(loss, value, gradient), parameters, {})
        return jnp.linalg.eigvalsh(jax.hessian(loss)(flat))[-1], h

    ratios = []
    for scale in [1e-3, 0.1, 1.0, 10.0] * 10:
        batch = {
            "target": jnp.asarray(rng.standard_normal((4, 4))),
            "mask": jnp.asarray(rng.random((4, 4)) < rng.random()),
        }
        largest, h = measure(jnp.asarray(scale * rng.standard_normal(24)), batch)
        ratios.append(float(largest * h) / 0.7)
    assert max(ratios) <= 1 + 1e-12
    assert max(ratios) > 0.5  # the bound is of the right size, not merely safe


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="inner_width"):
        factorization.problem(0)
    with pytest.raises(ValueError, match="factor"):
        factorization.safe_step(0.0)
