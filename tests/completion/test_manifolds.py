import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from phenodl.completion import manifolds, observation_graph
from phenodl.models.factorization import Factors, imbalance, product, stacked


def random_factors(rng, rows=4, inner=3, columns=5, runs=()):
    a, b = rng.standard_normal((*runs, rows, inner)), rng.standard_normal((*runs, inner, columns))
    return Factors(jnp.asarray(a), jnp.asarray(b))


def augmented(factors):
    return np.concatenate([factors.A, np.asarray(factors.B).T])


def test_distance_is_that_of_the_nearest_point_and_of_no_other(x64):
    rng = np.random.default_rng(0)
    factors = random_factors(rng)
    distances = np.asarray(manifolds.distances(factors))
    turn = np.linalg.svd(augmented(factors))[2]  # back from the aligned basis to that of factors
    for rank in range(3):
        nearest = manifolds.place(factors, rank, jnp.asarray(turn))
        moved = np.linalg.norm(augmented(nearest) - augmented(factors))
        np.testing.assert_allclose(moved, distances[rank], rtol=1e-12)
        assert np.linalg.matrix_rank(augmented(nearest)) == rank
        others = rng.standard_normal((200, 9, rank)) @ rng.standard_normal((200, rank, 3))
        scale = (others * augmented(factors)).sum((1, 2)) / np.maximum(
            (others**2).sum((1, 2)), 1e-300
        )
        others = scale[:, None, None] * others
        away = np.linalg.norm(others - augmented(factors), axis=(1, 2))
        assert np.all(away >= distances[rank] * (1 - 1e-12))


def test_distances_of_components(x64):
    rng = np.random.default_rng(1)
    mask = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    members = manifolds.component_members(observation_graph(mask))
    np.testing.assert_array_equal(
        members, [[1, 0, 1, 0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1, 0, 0, 0]]
    )
    factors = random_factors(rng, runs=(2,))
    measure = jax.jit(jax.vmap(manifolds.component_distances, in_axes=(0, None)))
    measured = measure(factors, jnp.asarray(members))
    assert measured.shape == (2, 2, 3)
    for run in range(2):
        rows = augmented(jax.tree.map(lambda leaf, run=run: leaf[run], factors))
        for component, member in enumerate(members):
            values = np.linalg.svd(rows[member], compute_uv=False)
            values = np.pad(values, (0, 3 - len(values)))
            tails = [np.linalg.norm(values[rank:]) for rank in range(3)]
            np.testing.assert_allclose(measured[run, component], tails, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_place_aligns_with_exact_zeros_and_a_rotation_keeps_the_product(x64, dtype):
    rng = np.random.default_rng(2)
    factors = jax.tree.map(lambda leaf: leaf.astype(dtype), random_factors(rng))
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turn = jnp.asarray(turn, dtype)
    tolerance = 20 * np.finfo(dtype).eps
    aligned = jax.jit(manifolds.place)(factors, 2)  # a traced rank
    rotated = manifolds.place(factors, 2, turn)
    assert aligned.A.dtype == dtype
    assert not np.any(aligned.A[:, 2:])
    assert not np.any(aligned.B[2:])
    gram = np.asarray(stacked(aligned).T @ stacked(aligned))
    expected = np.linalg.svd(augmented(factors), compute_uv=False)[:2] ** 2
    np.testing.assert_allclose(gram, np.diag([*expected, 0]), atol=tolerance * expected[0])
    np.testing.assert_allclose(product(rotated), product(aligned), atol=10 * tolerance)
    np.testing.assert_allclose(
        manifolds.distances(rotated), manifolds.distances(aligned), atol=10 * tolerance
    )


def test_more_latent_directions_than_rows_and_columns(x64):
    factors = random_factors(np.random.default_rng(3), rows=2, inner=5, columns=1)
    placed = manifolds.place(factors, 3)
    assert manifolds.distances(factors).shape == (3,)
    np.testing.assert_allclose(product(placed), product(factors), rtol=1e-12)
    assert not np.any(placed.A[:, 3:])


def test_rank_and_imbalance_along_the_flow(x64):
    # An adaptive integrator of another library, on a loss of the form Σ cosh(W - M).
    rng = np.random.default_rng(4)
    target, mask = rng.standard_normal((3, 3)), np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    start = manifolds.place(random_factors(rng, 3, 3, 3), 2)

    def velocity(_, theta):
        a, b = theta.reshape(2, 3, 3)
        slope = mask * np.sinh(a @ b - target)
        return -np.stack([slope @ b.T, a.T @ slope]).ravel()

    theta = np.stack(start).ravel()
    end = solve_ivp(velocity, (0, 5), theta, rtol=1e-11, atol=1e-13).y[:, -1].reshape(2, 3, 3)
    end = Factors(*end)
    assert np.linalg.norm(end.A - start.A) > 0.1
    np.testing.assert_allclose(imbalance(end), imbalance(start), atol=1e-9)
    distances = manifolds.distances(end)
    assert distances[2] == 0
    assert distances[1] > 0.01


def test_bad_arguments_are_named():
    factors = Factors(jnp.ones((2, 2)), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="rank must be in"):
        manifolds.place(factors, 3)
    with pytest.raises(ValueError, match="rotation must be"):
        manifolds.place(factors, 1, jnp.eye(3))
