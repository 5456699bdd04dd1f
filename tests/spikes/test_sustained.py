"""Sustained criteria against loops over the steps, and against the JAX smoothing of losses."""

import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.spikes import alarms, detect
from phenodl.spikes.sustained import above, first_met, trailing_mean


def signals(gaps):
    signal = np.random.default_rng(0).normal(1.0, 1.0, size=(3, 80))
    if gaps:
        signal[np.random.default_rng(1).random(signal.shape) < 0.6] = np.nan
    return signal


@pytest.mark.parametrize("width", [1, 4, 10, 200])
def test_the_mean_is_over_the_measured_steps(width):
    signal = signals(gaps=True)
    means = trailing_mean(signal, width)
    for run, step in np.ndindex(signal.shape):
        window = signal[run, max(0, step - width + 1) : step + 1]
        measured = window[~np.isnan(window)]
        expected = measured.mean() if measured.size else np.nan
        assert means[run, step] == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_without_gaps_it_is_the_smoothing_of_losses(x64):
    signal = signals(gaps=False)
    expected = np.stack([detect.trailing_mean(jnp.asarray(row)) for row in signal])
    np.testing.assert_allclose(trailing_mean(signal), expected, rtol=1e-12)


@pytest.mark.parametrize(("share", "consecutive"), [(1.0, 1), (0.5, 1), (1.0, 3)])
def test_above_against_a_loop(share, consecutive):
    signal = signals(gaps=True)
    threshold = np.linspace(0.8, 1.6, 80)
    met = above(signal, threshold, width=5, share=share, consecutive=consecutive)
    means = trailing_mean(signal, 5)
    for run, step in np.ndindex(signal.shape):
        window = range(step - consecutive + 1, step + 1)
        expected = all(at >= 0 and means[run, at] > share * threshold[at] for at in window)
        assert met[run, step] == expected


def test_one_loud_batch_is_no_alarm():
    signal = np.where(np.arange(100) == 40, 8.0, 1.0)
    assert (signal > 2.0).any()
    assert not above(signal, 2.0, width=10).any()
    assert above(signal, 2.0, width=10, share=0.5)[40:50].all()
    assert not above(signal, 2.0, width=1, consecutive=2).any()


def test_a_step_up_is_seen_when_its_share_of_the_window_says_so():
    # After k steps at 3 the mean of ten is 1 + 2 k / 10, above 2 from k = 6 on.
    signal = np.where(np.arange(100) >= 50, 3.0, 1.0)
    met = above(signal, 2.0, width=10)
    assert np.flatnonzero(met)[0] == 55
    assert alarms.lead_times(alarms.alarms(met), np.array([70])).tolist() == [15]


def test_first_met_against_a_loop():
    met = np.random.default_rng(2).random((4, 50)) < 0.1
    before = np.array([[10, 49, -1]] * 4)
    since = np.array([[0, 20, 30]] * 4)
    found = first_met(met, before, since)
    for run, spike in np.ndindex(before.shape):
        steps = range(since[run, spike], before[run, spike] + 1)
        assert found[run, spike] == next((at for at in steps if met[run, at]), -1)


@pytest.mark.parametrize("width", [1, 10])
def test_a_record_of_no_steps(width):
    signal = np.zeros((2, 0))
    assert trailing_mean(signal, width).shape == (2, 0)
    assert above(signal, 2.0, width=width, consecutive=3).shape == (2, 0)


def test_infinite_curvature_is_above():
    signal = np.array([1.0, np.inf, 1.0, 1.0])
    assert above(signal, 2.0, width=2).tolist() == [False, True, True, False]


def test_bad_widths_are_named():
    with pytest.raises(ValueError, match="width must be at least 1; it is 0"):
        trailing_mean(np.ones(3), 0)
    with pytest.raises(ValueError, match="consecutive must be at least 1; it is 0"):
        above(np.ones(3), 1.0, consecutive=0)
