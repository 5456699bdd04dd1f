"""The area under the curve by hand, against SciPy, and against what chance must give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import alarm_scores
from scipy import stats

from phenodl.spikes.roc import auc, shifted_auc


@given(
    values=st.lists(st.integers(0, 9) | st.just(np.nan), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 59), unique=True, max_size=6),
    open_end=st.booleans(),
    horizon=st.integers(1, 8),
)
@settings(max_examples=300, deadline=None)
def test_auc_against_all_pairs_of_steps(values, cuts, open_end, horizon):
    cuts = sorted(cuts)
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    if open_end and pairs:
        pairs[-1] = (pairs[-1][0], None)
    trigger = np.array([[first for first, _ in pairs] + [-1]], int)
    end = np.array([[-1 if last is None else last for _, last in pairs] + [-1]], int)

    (area,) = auc(np.array([values], float), trigger, end, horizon=horizon)
    expected = alarm_scores.auc(values, pairs, horizon)

    assert area == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_auc_is_the_statistic_of_mann_and_whitney():
    signal = np.random.default_rng(0).normal(size=(1, 500)).round(1)
    trigger, end = np.array([[100, 300]]), np.array([[120, 350]])
    ahead = np.isin(np.arange(500), [*range(70, 100), *range(270, 300)])
    inside = np.isin(np.arange(500), [*range(100, 121), *range(300, 351)])
    pair = signal[0, ahead], signal[0, ~ahead & ~inside]
    expected = stats.mannwhitneyu(*pair).statistic / (len(pair[0]) * len(pair[1]))
    assert auc(signal, trigger, end)[0] == pytest.approx(expected, abs=1e-12)


def test_auc_sees_the_order_alone_and_each_run_by_itself():
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(3, 200))
    trigger = np.array([[60, 150], [90, -1], [-1, -1]])
    end = np.array([[80, -1], [95, -1], [-1, -1]])
    areas = auc(signal, trigger, end)
    np.testing.assert_allclose(auc(np.exp(signal), trigger, end), areas)
    np.testing.assert_allclose(auc(-signal, trigger, end), 1 - areas)
    np.testing.assert_allclose(auc(signal[1:2], trigger[1:2], end[1:2]), areas[1:2])
    assert np.isnan(areas).tolist() == [False, False, True]


def test_the_shifted_area_is_that_of_the_turned_signal():
    signal = np.random.default_rng(2).normal(size=(2, 50))
    trigger, end = np.array([[20], [40]]), np.array([[25], [45]])
    options = {"shifts": 4, "horizon": 5}
    areas = shifted_auc(signal, trigger, end, rng=np.random.default_rng(3), **options)
    amounts = np.random.default_rng(3).integers(1, 50, size=(4, 2))
    for shift in range(4):
        turned = np.stack(
            [np.roll(row, by) for row, by in zip(signal, amounts[shift], strict=True)]
        )
        np.testing.assert_array_equal(areas[shift], auc(turned, trigger, end, horizon=5))


def test_by_chance_the_area_is_a_half():
    signal = np.random.default_rng(4).normal(size=(1, 1000))
    trigger, end = np.array([[500]]), np.array([[520]])
    areas = shifted_auc(signal, trigger, end, shifts=999, rng=np.random.default_rng(5))
    assert areas.mean() == pytest.approx(0.5, abs=0.01)
    assert np.isnan(shifted_auc(signal[:, :1], trigger, end, rng=np.random.default_rng(6))).all()
