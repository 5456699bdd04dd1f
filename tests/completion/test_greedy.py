import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.completion import greedy


@pytest.fixture(scope="module")
def learned():
    """Fully observed matrices, a hidden corner, and disconnected data, in one training."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((2, 3, 3)))[0] for _ in range(2))
    full = (left * np.array([3.0, 1.5, 0.5])) @ right
    ones = np.outer([1.0, 2.0, -1.0], [1.0, 0.5, 2.0])
    target = np.stack([*full, ones, ones])
    mask = np.ones((4, 3, 3), bool)
    mask[2, 0, 0] = False
    mask[3] = [[0, 1, 0], [1, 0, 1], [1, 0, 1]]
    target[2, 0, 0] = np.nan
    with jax.enable_x64(True):
        yield target, mask, greedy.greedy_low_rank(target, mask, steps=4000)


def test_stages_of_a_full_matrix_are_its_best_approximations(learned):
    target, _, path = learned
    assert path.stationary.all()
    left, values, right = np.linalg.svd(target[:2])
    for stage in range(3):
        kept = values * (np.arange(3) <= stage)
        best = (left * kept[:, None]) @ right
        np.testing.assert_allclose(path.W[:2, stage], best, atol=1e-9)
        missing = (values[:, stage + 1 :] ** 2).sum(1) / 18
        np.testing.assert_allclose(path.mean_loss[:2, stage], missing, rtol=1e-9, atol=1e-20)


def test_a_hidden_entry_is_recovered_and_fitted_data_get_no_direction(learned):
    _, _, path = learned
    np.testing.assert_allclose(path.W[2, 0, 0, 0], 1.0, atol=1e-9)
    assert not np.any(path.factors.A[2, :, :, 1:])


def test_exactly_nothing_between_components(learned):
    target, mask, path = learned
    assert not np.any(path.W[3][:, ~mask[3]])
    np.testing.assert_allclose(path.W[3, 1][mask[3]], target[3][mask[3]], atol=1e-10)
    # The first stage is the stronger component alone, with balanced factors.
    np.testing.assert_allclose(path.W[3, 0, 1:, ::2], target[3, 1:, ::2], atol=1e-9)
    assert path.W[3, 0, 0, 1] == 0
    a, b = path.factors.A[3, -1], path.factors.B[3, -1]
    np.testing.assert_allclose(a.T @ a, b @ b.T, atol=1e-7)


def test_top_singular_pair(x64):
    rng = np.random.default_rng(1)
    matrices = rng.standard_normal((5, 4, 3)) * 10.0 ** np.arange(-200, 201, 100)[:, None, None]
    u, v = jax.jit(jax.vmap(greedy.top_singular_pair))(jnp.asarray(matrices))
    left, _, right = np.linalg.svd(matrices)
    outer = left[:, :, :1] * right[:, :1]
    np.testing.assert_allclose(u[:, :, None] * v[:, None], outer, atol=1e-12)

    blocks = np.zeros((4, 3))
    blocks[[0, 0, 2, 2], [0, 2, 0, 2]] = 1.0, 2.0, -1.0, 0.5
    blocks[1, 1] = 2.2
    u, v = greedy.top_singular_pair(jnp.asarray(blocks))
    assert not np.any(np.asarray(u)[[1, 3]])
    assert v[1] == 0
    u, v = greedy.top_singular_pair(jnp.zeros((2, 2)))
    assert not np.any(u)
    assert not np.any(v)


def test_bad_arguments_are_named(x64):
    data = np.ones((1, 2, 3)), np.ones((1, 2, 3), bool)
    with pytest.raises(ValueError, match="target and mask must be"):
        greedy.greedy_low_rank(data[0][0], data[1][0])
    with pytest.raises(ValueError, match="target must be finite where it is observed"):
        greedy.greedy_low_rank(data[0] * np.nan, data[1])
    with pytest.raises(ValueError, match="stages must be in"):
        greedy.greedy_low_rank(*data, stages=3)
    with jax.enable_x64(False), pytest.raises(ValueError, match="double precision"):
        greedy.greedy_low_rank(*data)
