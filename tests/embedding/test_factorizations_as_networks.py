import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.completion.low_rank_fit import best_fit
from phenodl.embedding import degeneracy, factorization, width
from phenodl.embedding.inertia import spectrum
from phenodl.models import factorization as models
from phenodl.models import mlp
from phenodl.models.factorization import Factors

pytestmark = pytest.mark.usefixtures("x64")


def identity(signal):
    return signal


@jax.jit
def split_first(params, alpha):
    return width.split(params, 0, 0, alpha)


@jax.jit
def gradient(params, data):
    return jax.grad(factorization.as_problem(models.problem()).loss)(params, data)


def random_factors(rows, inner, columns, seed=0):
    random = np.random.default_rng(seed)
    return Factors(
        jnp.asarray(random.standard_normal((rows, inner))),
        jnp.asarray(random.standard_normal((inner, columns))),
    )


def orthogonal(size, seed=0):
    return jnp.asarray(np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0])


def observations():
    random = np.random.default_rng(3)
    mask = np.ones((4, 5), bool)
    mask[1, 2] = mask[3, 0] = False
    return {"target": random.standard_normal((4, 5)), "mask": mask}


def best_factors(data, rank):
    """The best fit of a rank, by another route: an SVD of what Levenberg-Marquardt finds."""
    fit = best_fit(data["target"][None], data["mask"][None], rank, starts=8)
    assert fit.attained[0]
    left, values, right = np.linalg.svd(fit.matrix[0])
    root = np.sqrt(values[:rank])
    return Factors(jnp.asarray(left[:, :rank] * root), jnp.asarray(root[:, None] * right[:rank]))


def test_the_network_computes_the_product_and_has_its_gradient():
    factors, data = random_factors(4, 3, 5), observations()
    params = factorization.as_network(factors)
    outputs = jax.jit(mlp.apply, static_argnums=2)(params, np.eye(5), identity)
    np.testing.assert_allclose(outputs, factors.A @ factors.B, rtol=1e-13)

    grads = gradient(params, data)
    residual = np.where(data["mask"], np.asarray(factors.A @ factors.B) - data["target"], 0)
    np.testing.assert_allclose(grads["layer_1"]["weight"], residual @ factors.B.T, atol=1e-12)
    np.testing.assert_allclose(grads["layer_0"]["weight"], factors.A.T @ residual, atol=1e-12)
    problem = factorization.as_problem(models.problem())
    start = jax.eval_shape(problem.init, jax.random.key(0), data, {"init_std": jnp.asarray(1.0)})
    assert factorization.as_factors(start).A.shape == (4, 4)


def test_rotated_null_embeddings_have_rank_k_and_are_undone():
    narrow, turn = random_factors(4, 2, 5), orthogonal(6)
    wide = factorization.null_embedding(narrow, 6, turn)
    stacked = np.concatenate([wide.A, wide.B.T])
    assert np.linalg.matrix_rank(stacked, tol=1e-12) == 2
    np.testing.assert_allclose(wide.A @ wide.B, narrow.A @ narrow.B, atol=1e-13)

    found = jax.jit(factorization.remove_null_units, static_argnums=1)(wide, 2)
    assert float(found.left_out) < 1e-13
    again = factorization.null_embedding(found.narrow, 6, found.rotation.T)
    np.testing.assert_allclose(again.A, wide.A, atol=1e-13)
    np.testing.assert_allclose(again.B, wide.B, atol=1e-13)


def test_the_nearest_null_embedding_is_nearer_than_any_random_rotation():
    narrow, wide = random_factors(3, 1, 3, seed=1), random_factors(3, 3, 3, seed=2)
    embedding, distance = jax.jit(factorization.nearest_null_embedding)(wide, narrow)
    apart = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(wide, embedding, strict=True)))
    assert float(distance) == pytest.approx(apart, rel=1e-13)
    whole = np.concatenate([wide.A, wide.B.T])
    aligned = np.concatenate([np.concatenate([narrow.A, narrow.B.T]), np.zeros((6, 2))], axis=1)
    turns = np.linalg.qr(np.random.default_rng(0).standard_normal((2000, 3, 3)))[0]
    others = np.linalg.norm(whole - aligned @ turns, axis=(1, 2))
    assert distance <= others.min() <= float(distance) * 1.05


def test_balancing_keeps_the_product():
    factors = random_factors(4, 2, 5)
    balanced = jax.jit(factorization.balance)(factors)
    np.testing.assert_allclose(balanced.A @ balanced.B, factors.A @ factors.B, atol=1e-13)
    np.testing.assert_allclose(balanced.A.T @ balanced.A, balanced.B @ balanced.B.T, atol=1e-13)


def test_null_units_add_the_singular_values_of_the_residual_to_the_spectrum():
    data = observations()
    narrow = best_factors(data, 2)
    residual = np.where(data["mask"], np.asarray(narrow.A @ narrow.B) - data["target"], 0)
    values = np.linalg.svd(residual, compute_uv=False)
    problem = factorization.as_problem(models.problem())

    @jax.jit
    def eigenvalues(params):
        return spectrum(lambda point: problem.loss(point, data), params)

    alone = eigenvalues(factorization.as_network(narrow))
    wide = factorization.null_embedding(narrow, 4, orthogonal(4))
    expected = np.concatenate([alone, *[np.r_[-values, 0, values]] * 2])
    found = eigenvalues(factorization.as_network(wide))
    np.testing.assert_allclose(found, np.sort(expected), atol=1e-8)
    # Hence a strict saddle, of a least eigenvalue in closed form.
    assert float(found[0]) == pytest.approx(-values[0], abs=1e-8)
    assert alone[0] > -1e-8

    def of_outputs(outputs):
        return 0.5 * jnp.sum(jnp.where(data["mask"], outputs - data["target"], 0.0) ** 2)

    @jax.jit
    def across(params):
        return degeneracy.null_hessian(params, 0, 0.0, jnp.eye(5), identity, of_outputs)

    transverse = across(factorization.as_network(narrow))
    predicted = np.linalg.eigvalsh(transverse)
    np.testing.assert_allclose(predicted, np.sort(np.r_[-values, 0, values]), atol=1e-12)


@pytest.mark.parametrize("alpha", [-0.7, 0.0, 0.3, 0.4999, 0.5, 1.4])
def test_splits_stay_critical_and_leave_the_manifold_unless_equal(alpha):
    data = observations()
    narrow = best_factors(data, 1)
    params = split_first(factorization.as_network(narrow), alpha)
    grads = gradient(params, data)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads)) < 1e-8
    split = factorization.as_factors(params)
    values = np.linalg.svd(np.concatenate([split.A, split.B.T]), compute_uv=False)
    distance = factorization.split_distance(narrow.A[:, 0], narrow.B[0], alpha)
    assert float(distance) == pytest.approx(values[1], abs=1e-14)
    assert (values[1] < 1e-14) == (alpha == 0.5)


def test_the_example_of_a_split_with_unequal_shares():
    split = Factors(jnp.array([[0.7, 0.3]]), jnp.array([[1.0], [1.0]]))
    ranks = [np.linalg.matrix_rank(each) for each in (*split, models.stacked(split))]
    assert ranks == [1, 1, 2]
    equal = Factors(jnp.array([[0.5, 0.5]]), jnp.array([[1.0], [1.0]]))
    found = factorization.remove_null_units(equal, 1)
    assert float(found.left_out) < 1e-15
    # It is no embedding of A = [1], B = [1], but of another factorization of the same W.
    assert abs(float(found.narrow.A[0, 0])) == pytest.approx(0.5**0.5, rel=1e-14)


def test_bad_arguments():
    factors = random_factors(3, 2, 3)
    with pytest.raises(ValueError, match="inner: expected at least 2"):
        factorization.null_embedding(factors, 1)
    with pytest.raises(ValueError, match=r"rank: expected a number in \[1, 2\], got 3"):
        factorization.remove_null_units(factors, 3)
    square = {"weight": jnp.eye(2)}
    biased = {"layer_0": square | {"bias": jnp.ones(2)}, "layer_1": square}
    with pytest.raises(ValueError, match="two layers without biases, got a bias in layer_0"):
        factorization.as_factors(biased)
    with pytest.raises(ValueError, match="two layers without biases, got 3 layers"):
        factorization.as_factors({f"layer_{number}": square for number in range(3)})
