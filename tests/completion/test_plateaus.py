import jax
import numpy as np
import pytest

import phenodl
from phenodl import sweep, training
from phenodl.completion.plateaus import find_plateaus, history, spectra
from phenodl.models import factorization
from phenodl.optim import flow
from phenodl.protocol import Layout


def staircase(depths, ranks, inner=4):
    """A history that falls by these decades, and rises again, once per rank."""
    norm = np.concatenate([np.abs(np.linspace(-depth, depth, 41)) - depth for depth in depths])
    values = np.full((len(norm), inner), 1e-5)
    for number, rank in enumerate(ranks):
        values[41 * number : 41 * (number + 1), :rank] = 2.0
    return 10.0**norm, np.linspace(5, 1, len(norm)), values


def test_minima_of_the_gradient_with_their_ranks():
    norm, loss, values = staircase([8, 6, 0.5, 3], [1, 2, 3, 3])
    found = find_plateaus(norm, loss, values)
    assert found.index.tolist() == [20, 61, 143]  # half a decade is no plateau
    assert found.rank.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.loss, loss[found.index])


def test_neighbours_of_equal_rank_are_one_where_the_gradient_is_least():
    norm, loss, values = staircase([3, 9, 4, 5, 2], [1, 1, 2, 2, 1])
    found = find_plateaus(norm, loss, values)
    assert found.index.tolist() == [61, 143, 184]
    assert found.rank.tolist() == [1, 2, 1]


def test_what_has_converged_or_ended_is_no_plateau():
    norm, loss, values = staircase([8, 6, 7], [1, 2, 3])
    loss = np.where(np.arange(len(loss)) > 80, 1e-12, loss)
    assert find_plateaus(norm, loss, values).rank.tolist() == [1, 2]
    ended = np.arange(len(loss)) > 70
    for array in (norm, loss, values):
        array[ended] = np.nan
    assert find_plateaus(norm, loss, values).rank.tolist() == [1, 2]
    silent = find_plateaus(np.zeros(9), np.ones(9), np.ones((9, 2)))
    assert silent.index.shape == silent.rank.shape == (0,)


def test_histories_must_be_of_one_length():
    with pytest.raises(ValueError, match="grad_norm, loss and singular_values must be"):
        find_plateaus(np.ones(5), np.ones(4), np.ones((5, 2)))


def test_spectra_of_a_batch():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 3, 4, 6))
    values = spectra(left, right)
    matrices = {"A": left[1, 2], "B": right[1, 2], "W": left[1, 2] @ right[1, 2]}
    matrices["W_aug"] = np.vstack([left[1, 2], right[1, 2].T])
    for name, matrix in matrices.items():
        eigenvalues = np.linalg.eigvalsh(matrix.T @ matrix)[::-1][: values[name].shape[-1]]
        np.testing.assert_allclose(values[name][1, 2] ** 2, eigenvalues, atol=1e-12)


def test_a_diagonal_target_is_learned_value_by_value(x64):
    """With everything observed the saddles are the truncations of M (Eckart and Young, 1936)."""
    target = np.diag([5.0, 2.0, 0.8])[None]
    runs = sweep.product(
        key=jax.random.key(0), instance={"target": target, "mask": target == target}, init_std=1e-9
    )
    chunks = training.train(
        factorization.problem(),
        flow.gradient_descent(factorization.safe_step(0.5)),
        runs,
        steps=2400,
        chunk=2400,
        probes=history(8),
        layout=Layout(width=1),
    )
    recorded = phenodl.collect(chunks).isel(instance=0)
    left, right = recorded.A.values, recorded.B.values
    found = find_plateaus(
        recorded.grad_norm.values, recorded.loss.values / 9, spectra(left, right)["W_aug"]
    )
    assert found.rank.tolist() == [1, 2]
    learned = (left @ right)[found.index]
    expected = [np.diag([5.0, 0, 0]), np.diag([5.0, 2.0, 0])]
    np.testing.assert_allclose(learned, expected, atol=1e-4)
    np.testing.assert_allclose(found.loss, np.array([2.32, 0.32]) / 9, rtol=1e-6)
