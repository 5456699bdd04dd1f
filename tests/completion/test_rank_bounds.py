import itertools

import numpy as np
import pytest

from phenodl.completion import minimum_rank
from phenodl.data import matrices


def test_textbook_instances():
    rng = np.random.default_rng(0)
    target = matrices.low_rank_matrices(rng, np.array([1, 2, 3, 3, 2, 3, 3]), (4, 4))
    full, diagonal = np.ones((4, 4), bool), np.eye(4, dtype=bool)
    corner, column = full.copy(), full.copy()
    corner[3, 3] = False
    column[:, 2:] = False
    mask = np.stack([full, full, full, diagonal, corner, corner, column])
    bounds = minimum_rank(target, mask, [1, 2, 3, 3, 2, 3, 3])
    # A diagonal is fitted by an outer product; two full columns of a rank-3 matrix have rank 2.
    np.testing.assert_array_equal(bounds.upper, [1, 2, 3, 1, 2, 3, 2])
    assert bounds.closed.all()


def test_rank_one_by_the_cycles_of_the_graph():
    """A rank-1 fit of non-zero data exists iff every observed 2 x 2 minor and longer cycle closes.

    In logarithms |M_ij| = a_i + b_j is a linear system, and the signs another one over GF(2).
    """
    rng = np.random.default_rng(1)
    rank = np.full(60, 2)
    target = matrices.low_rank_matrices(rng, rank, (4, 4))
    mask = matrices.random_masks(rng, rng.integers(3, 9, 60), (4, 4))
    expected = []
    for matrix, seen in zip(target, mask, strict=True):
        rows, columns = np.nonzero(seen)
        system = np.zeros((len(rows), 8))
        system[np.arange(len(rows)), rows] = system[np.arange(len(rows)), 4 + columns] = 1
        magnitude = np.log(np.abs(matrix[rows, columns]))
        solution = np.linalg.lstsq(system, magnitude, rcond=None)[0]
        sign = np.sign(matrix[rows, columns])
        signs = any(
            np.array_equal(np.prod(np.where(system > 0, choice, 1), axis=1), sign)
            for choice in itertools.product([-1, 1], repeat=8)
        )
        expected.append(1 if np.allclose(system @ solution, magnitude) and signs else 2)
    bounds = minimum_rank(target, mask, rank)
    np.testing.assert_array_equal(bounds.upper, expected)
    assert set(expected) == {1, 2}


def test_the_certificate_closes_on_generic_instances():
    family = matrices.connectivity_family(3, masks_per_size=3, sparse_masks=150)
    bounds = minimum_rank(family.target, family.mask, family.rank)
    assert np.all(bounds.lower <= bounds.upper)
    assert np.all(bounds.upper <= family.rank)
    assert bounds.closed.mean() >= 0.99


def test_data_that_are_not_generic_leave_it_open():
    # x11 x22 = 1 with x11 = 0 has no rank-1 fit, only ones that come ever closer as x22 grows.
    target = np.array([[[0.0, 1.0], [1.0, np.nan]]])
    bounds = minimum_rank(target, ~np.isnan(target), [2])
    assert (bounds.lower[0], bounds.upper[0]) == (1, 2)


def test_rectangular_matrices():
    rng = np.random.default_rng(4)
    for shape in [(3, 6), (6, 3), (1, 4)]:
        rank = np.array([1, min(2, *shape), min(shape)])
        target = matrices.low_rank_matrices(rng, rank, shape)
        bounds = minimum_rank(target, np.ones_like(target, bool), rank)
        np.testing.assert_array_equal(bounds.upper, rank)
        np.testing.assert_array_equal(bounds.lower, rank)


def test_bad_arguments_are_named():
    target = np.ones((2, 3, 3))
    mask = target > 0
    with pytest.raises(ValueError, match="rank must be in"):
        minimum_rank(target, mask, [1, 4])
    with pytest.raises(ValueError, match="target and mask must be"):
        minimum_rank(target, mask[0], [1, 1])
    with pytest.raises(ValueError, match="target must be finite"):
        minimum_rank(np.where(np.eye(3) > 0, np.nan, target), mask, [1, 1])
