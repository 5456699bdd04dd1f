import numpy as np
import pytest

from phenodl import plateaus


def passing_saddles(rates, times, t):
    """|∇L| of flow near saddles: at each, contraction at rate 1 against escape at its own rate."""
    norm = np.full_like(t, np.inf)
    for rate, (arrival, departure) in zip(rates, times, strict=True):
        fall, rise = np.exp(arrival - t), np.exp(rate * (t - departure))
        inside = (t >= arrival - 1) & (t <= departure + 1)
        norm = np.where(inside, np.hypot(fall, rise), norm)
    return np.where(np.isfinite(norm), norm, 1.0)


def test_the_least_gradient_lies_where_contraction_and_escape_balance():
    t = np.linspace(0, 100, 20001)
    rates, times = [1.0, 0.5], [(5.0, 35.0), (40.0, 90.0)]
    norm = passing_saddles(rates, times, t)
    found = plateaus.find(norm, np.ones_like(t))
    # d/dt (e^{2(a-t)} + e^{2r(t-d)}) = 0 at t = (a + r d - ln(r) / 2) / (1 + r)
    expected = [
        (a + r * d - np.log(r) / 2) / (1 + r) for r, (a, d) in zip(rates, times, strict=True)
    ]
    np.testing.assert_allclose(t[found.index], expected, atol=0.01)
    # The lower side rises to |∇L| = e^r, a unit of time after the departure: half of the decades.
    for rate, low, begin, end in zip(rates, *found, strict=True):
        half = (rate * np.log10(np.e) + np.log10(norm[low])) / 2
        assert np.log10(norm[begin : end + 1]).max() <= half
        assert np.log10(norm[[begin - 1, end + 1]]).min() > half


def test_what_is_shallow_converged_or_not_recorded_is_no_plateau():
    t = np.linspace(0, 100, 2001)
    norm = passing_saddles([1.0, 1.0], [(5.0, 35.0), (50.0, 80.0)], t)
    loss = np.where(t < 45, 1.0, 1e-12)
    assert len(plateaus.find(norm, np.ones_like(t)).index) == 2
    assert len(plateaus.find(norm, loss).index) == 1
    assert len(plateaus.find(norm, loss, least_loss=1e-13).index) == 2
    assert len(plateaus.find(norm, loss, prominence=20).index) == 0
    norm[t > 60] = np.nan  # the second minimum, at 65, is not reached
    assert len(plateaus.find(norm, np.ones_like(t)).index) == 1
    falling = np.exp(-t)
    assert len(plateaus.find(falling, np.ones_like(t)).index) == 0  # neither start nor end


def test_some_of_the_plateaus():
    found = plateaus.Plateaus(*np.arange(9).reshape(3, 3))
    assert found.at([False, True, True]).begin.tolist() == [4, 5]
    assert found.at([2, 0]).index.tolist() == [2, 0]


def test_neighbours_of_one_kind_are_merged_into_the_deepest():
    norm = [1e-2, 1e-4, 1e-3, 1e-6, 1e-5, 0.0]
    assert plateaus.merge_neighbours(norm, [1, 1, 2, 1, 3, 3]).tolist() == [1, 2, 3, 5]
    assert plateaus.merge_neighbours([], []).shape == (0,)


def test_depth_is_finite_where_the_gradient_vanishes():
    assert np.isfinite(plateaus.depth(0.0))
    np.testing.assert_allclose(plateaus.depth([1e-4, 100.0]), [4, -2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(5), np.ones(4)), "two histories of one length"),
        ((np.ones((5, 1)), np.ones((5, 1))), "two histories of one length"),
    ],
)
def test_histories_must_be_of_one_length(arguments, message):
    with pytest.raises(ValueError, match=message):
        plateaus.find(*arguments)


def test_prominence_must_be_positive():
    with pytest.raises(ValueError, match="prominence must be positive, got 0"):
        plateaus.find(np.ones(5), np.ones(5), prominence=0)
