import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from phenodl.completion.polish import polish
from phenodl.models import factorization
from phenodl.models.factorization import Factors


def near_fits(runs: int, distance: float, seed: int = 0):
    """Balanced factors of a random matrix, moved by about ``distance`` along the flow's directions.

    Runs last. Half of the entries are observed.
    """
    random = np.random.default_rng(seed)
    left, values, right = np.linalg.svd(random.standard_normal((runs, 5, 4)), full_matrices=False)
    root = np.sqrt(values)
    a, b = left * root[:, None], root[..., None] * right
    mask = random.random((runs, 5, 4)) < 0.5
    push = np.where(mask, distance * random.standard_normal((runs, 5, 4)), 0)
    target = a @ b
    moved = a + push @ b.swapaxes(1, 2), b + a.swapaxes(1, 2) @ push
    last = [jnp.asarray(np.moveaxis(each, 0, -1)) for each in (*moved, target, mask)]
    return Factors(*last[:2]), {"target": last[2], "mask": last[3]}


def imbalance(factors: Factors) -> np.ndarray:
    """AᵀA - BBᵀ of every run."""
    a, b = (np.moveaxis(np.asarray(each), -1, 0) for each in factors)
    return a.swapaxes(1, 2) @ a - b @ b.swapaxes(1, 2)


def test_an_exact_fit_is_reached_next_to_the_start(x64):
    factors, data = near_fits(runs=16, distance=1e-5)
    fit = jax.jit(polish(below=1e-8).apply)(factors, data)
    loss = factorization.mean_loss(factorization.squared_loss(fit, data), data["mask"])
    assert loss.max() < 1e-24
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), fit, factors)
    assert max(moved) < 1e-3


def test_the_change_has_least_norm(x64):
    """Against the pseudo-inverse of the dense Jacobian, to first order in the distance."""
    factors, data = near_fits(runs=1, distance=1e-7)
    one = jax.tree.map(lambda leaf: leaf[..., 0], (factors, data))
    fit = polish(below=1e-8).apply(*one)
    flat, unflatten = jax.flatten_util.ravel_pytree(one[0])

    def residual(theta):
        return factorization.residual(unflatten(theta), one[1]).ravel()

    step = -np.linalg.pinv(jax.jacobian(residual)(flat), rcond=1e-10) @ residual(flat)
    change = jax.flatten_util.ravel_pytree(fit)[0] - flat
    np.testing.assert_allclose(change, step, atol=1e-6 * float(np.linalg.norm(step)))


def test_the_balance_of_the_factors_is_conserved(x64):
    """The flow conserves AᵀA - BBᵀ; a plain Gauss-Newton step breaks it in second order."""
    factors, data = near_fits(runs=16, distance=3e-5)
    fit = jax.jit(polish(below=1e-7).apply)(factors, data)
    assert np.abs(np.asarray(fit.A - factors.A)).max(axis=(0, 1)).min() > 1e-5
    np.testing.assert_allclose(imbalance(fit), imbalance(factors), atol=1e-14)


def test_runs_that_are_far_from_a_fit_or_have_reached_it_stay_as_they_are(x64):
    factors, data = near_fits(runs=4, distance=1e-5)
    exact = near_fits(runs=4, distance=0.0)[0]
    mixed = jax.tree.map(
        lambda near, fit: near.at[..., 0].multiply(2.0).at[..., 1].set(fit[..., 1]), factors, exact
    )
    polished = jax.jit(polish(below=1e-8).apply)(mixed, data)
    for new, old in zip(polished, mixed, strict=True):
        np.testing.assert_array_equal(new[..., 0], old[..., 0])
        np.testing.assert_allclose(new[..., 1], old[..., 1], atol=1e-14)
        assert np.abs(np.asarray(new[..., 2:] - old[..., 2:])).max() > 1e-8


def test_data_that_cannot_be_fitted_are_left_to_the_flow(x64):
    """A rank-one factorization of a full-rank matrix that is tiny: small loss, no fit."""
    random = np.random.default_rng(0)
    target = 1e-5 * jnp.asarray(random.standard_normal((4, 4)))
    left, values, right = np.linalg.svd(target)
    best = Factors(jnp.asarray(left[:, :1] * values[0] ** 0.5), values[0] ** 0.5 * right[:1])
    data = {"target": target, "mask": jnp.ones((4, 4), bool)}
    polished = polish(below=1e-8).apply(best, data)
    np.testing.assert_array_equal(polished.A, best.A)
    np.testing.assert_array_equal(polished.B, best.B)
