import numpy as np
import pytest
from scipy.optimize import fminbound

from phenodl.completion.low_rank_fit import best_fit, jacobian
from phenodl.data import matrices


def tail_energy(matrix, rank):
    """The least squared loss over rank k when every entry is seen (Eckart and Young, 1936)."""
    return 0.5 * (np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum()


def test_full_matrices_are_truncated():
    rng = np.random.default_rng(0)
    target = rng.standard_normal((5, 4, 6))
    for rank in (1, 2, 3, 4):
        fit = best_fit(target, np.ones_like(target, bool), rank)
        u, values, vt = np.linalg.svd(target, full_matrices=False)
        expected = (u[:, :, :rank] * values[:, None, :rank]) @ vt[:, :rank]
        assert fit.attained.all()
        np.testing.assert_allclose(fit.matrix, expected, atol=1e-10)
        np.testing.assert_allclose(
            fit.loss, [tail_energy(matrix, rank) for matrix in target], rtol=1e-12, atol=1e-20
        )


def test_one_hidden_entry_against_a_search_over_its_value():
    """A hidden entry fits itself, so that the best loss is the least tail energy over its values.

    Where W(x) is the truncation at the best value x, its hidden entry is x.
    """
    rng = np.random.default_rng(1)
    target = matrices.low_rank_matrices(rng, np.full(6, 3), (4, 4))
    mask = np.ones_like(target, bool)
    mask[np.arange(6), rng.integers(4, size=6), rng.integers(4, size=6)] = False
    for rank in (1, 2):
        fit = best_fit(target, mask, rank, starts=10)
        assert fit.attained.all()
        assert np.all(fit.agreeing > 1)
        np.testing.assert_array_equal(np.linalg.matrix_rank(fit.matrix, rtol=1e-10), rank)
        for number in range(6):
            hidden = ~mask[number]

            def energy(value, number=number, hidden=hidden, rank=rank):
                return tail_energy(np.where(hidden, value, target[number]), rank)

            grid = np.sinh(np.linspace(-6, 6, 400))
            start = grid[np.argmin([energy(value) for value in grid])]
            width = 0.1 * (1 + abs(start))
            best = fminbound(energy, start - width, start + width)
            assert fit.loss[number] == pytest.approx(energy(best), rel=1e-8, abs=1e-12)
            assert fit.matrix[number][hidden][0] == pytest.approx(best, rel=1e-3, abs=1e-3)


def test_an_infimum_that_is_not_attained_is_told():
    # (e, 1; 1, 1/e) has rank 1 and loss e²/2: the infimum 0 would need an infinite entry.
    target = np.array([[[0.0, 1.0], [1.0, np.nan]], [[2.0, 1.0], [1.0, np.nan]]])
    fit = best_fit(target, ~np.isnan(target), 1)
    assert fit.attained.tolist() == [False, True]
    assert fit.loss[0] < 1e-4
    assert abs(fit.matrix[0, 1, 1]) > 100
    assert fit.matrix[1, 1, 1] == pytest.approx(0.5, rel=1e-9)


def test_scale_does_not_matter_and_zero_is_fitted():
    target = np.random.default_rng(2).standard_normal((1, 4, 3))
    mask = np.ones_like(target, bool)
    unit = best_fit(target, mask, 2)
    for scale in (1e-8, 1e8):
        fit = best_fit(scale * target, mask, 2)
        np.testing.assert_allclose(fit.matrix, scale * unit.matrix, rtol=1e-9)
        np.testing.assert_allclose(fit.loss, scale**2 * unit.loss, rtol=1e-9)
    fit = best_fit(0 * target, mask, 2)
    assert fit.attained[0]
    np.testing.assert_allclose(fit.matrix, 0, atol=1e-10)


def test_jacobian_against_differences():
    rng = np.random.default_rng(3)
    left, right, move = (rng.standard_normal(shape) for shape in [(2, 4, 3), (2, 3, 5), (2, 27)])
    by_left, by_right = move[:, :12].reshape(2, 4, 3), move[:, 12:].reshape(2, 3, 5)
    slope = jacobian(left, right) @ move[:, :, None]
    ahead, behind = (
        (left + h * by_left) @ (right + h * by_right) for h in (0.5, -0.5)
    )  # exact for a quadratic
    np.testing.assert_allclose(slope.reshape(2, 4, 5), ahead - behind, atol=1e-13)


def test_bad_arguments_are_named():
    target = np.ones((2, 3, 3))
    mask = target > 0
    with pytest.raises(ValueError, match="rank must be in"):
        best_fit(target, mask, 4)
    with pytest.raises(ValueError, match="starts must be at least 1"):
        best_fit(target, mask, 1, starts=0)
    with pytest.raises(ValueError, match="target and mask must be"):
        best_fit(target, mask[0], 1)
    with pytest.raises(ValueError, match="target must be finite"):
        best_fit(target * np.nan, mask, 1)
