"""Alarms by hand, against plain Python, and against what chance must give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import alarm_scores

from phenodl.spikes import alarms
from phenodl.spikes.alarms import Counts, count, lead_times, precision, recall, score, shifted


def steps(*stretches, total=200):
    above = np.zeros(total, bool)
    for first, last in stretches:
        above[first : last + 1] = True
    return above


def spikes(*pairs):
    return tuple(np.array(column, int) for column in zip(*pairs, strict=True))


def test_gaps_are_closed_up_to_their_length():
    above = steps((10, 12), (23, 23), (35, 40))
    assert [found.tolist() for found in alarms.alarms(above, gap=10)] == [[10, 35], [23, 40]]
    assert [found.tolist() for found in alarms.alarms(above, gap=11)] == [[10], [40]]
    assert [found.tolist() for found in alarms.alarms(steps(), gap=10)] == [[], []]


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (49, Counts(0, 1, 0, 0, 1)),  # the alarm comes one step late, after a spike that is over
        (50, Counts(1, 0, 0, 1, 1)),
        (90, Counts(1, 0, 0, 1, 1)),
        (91, Counts(0, 1, 0, 0, 1)),  # past the horizon
    ],
)
def test_an_alarm_reaches_from_its_beginning_to_the_horizon(trigger, expected):
    above = alarms.alarms(steps((50, 60)))
    end = trigger if trigger == 49 else trigger + 20
    assert count(above, *spikes((trigger, end)), horizon=30) == expected


@pytest.mark.parametrize("end", [120, -1])
def test_an_alarm_that_begins_inside_a_spike_is_dropped(end):
    found = alarms.alarms(steps((50, 60), (110, 112)))
    counts = count(found, *spikes((70, end), (-1, -1)))
    assert counts == Counts(true=1, false=0, dropped=1, foreseen=1, spikes=1)


def test_the_latest_alarm_gives_the_lead():
    found = alarms.alarms(steps((40, 42), (60, 62)))
    leads = lead_times(found, np.array([70, 130, -1]))
    np.testing.assert_array_equal(leads, [10, np.nan, np.nan])
    np.testing.assert_array_equal(lead_times(alarms.alarms(steps()), np.array([70])), [np.nan])


@given(
    above=st.lists(st.booleans(), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 59), unique=True, max_size=6),
    open_end=st.booleans(),
    gap=st.integers(0, 4),
    horizon=st.integers(0, 8),
)
@settings(max_examples=300, deadline=None)
def test_against_plain_python(above, cuts, open_end, gap, horizon):
    cuts = sorted(cuts)
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    if open_end and pairs:
        pairs[-1] = (pairs[-1][0], None)
    trigger = np.array([first for first, _ in pairs] + [-1], int)
    end = np.array([-1 if last is None else last for _, last in pairs] + [-1], int)

    found = alarms.alarms(np.array(above), gap)
    expected, leads = alarm_scores.score(above, pairs, gap, horizon)

    assert count(found, trigger, end, horizon) == (*expected, len(pairs))
    foreseen = lead_times(found, trigger, horizon)
    assert foreseen[np.isfinite(foreseen)].tolist() == leads


def test_runs_are_pooled_by_their_counts():
    above = np.stack([steps((50, 60)), steps((20, 25), (150, 155))])
    trigger, end = np.array([[70], [30]]), np.array([[90], [60]])
    counts = score(above, trigger, end)
    assert [column.tolist() for column in counts] == [[1, 1], [0, 1], [0, 0], [1, 1], [1, 1]]
    assert precision(counts) == pytest.approx(2 / 3)
    assert recall(counts) == 1


def test_no_alarms_and_no_spikes_give_no_number():
    counts = score(steps()[None], np.array([[-1]]), np.array([[-1]]))
    assert np.isnan(precision(counts))
    assert np.isnan(recall(counts))


def test_shifted_alarms_reach_a_spike_as_often_as_the_reach_is_long():
    # Turned by a random amount, one alarm of 11 steps reaches the trigger from 41 of 200 places;
    # from 10 of the others it begins inside the spike, and at amount 0 it never stands.
    above, (trigger, end) = steps((50, 60))[None], spikes((100, 110))
    counts = shifted(above, trigger[None], end[None], shifts=4000, rng=np.random.default_rng(0))
    places = 199  # of 200, and the one left out, 50, does not reach the trigger
    assert counts.true.shape == (4000, 1)
    for column, share in ((counts.true, 41 / places), (counts.dropped, 10 / places)):
        assert column.mean() == pytest.approx(share, abs=4 * np.sqrt(share / 4000))
    assert recall(counts) == pytest.approx(41 / places, abs=0.03)


def test_shifts_are_those_of_the_generator():
    above, (trigger, end) = steps((50, 60), (90, 95))[None], spikes((100, 110))
    first, again = (
        shifted(above, trigger[None], end[None], shifts=5, rng=np.random.default_rng(3))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("length", [0, 1])
def test_a_record_too_short_to_turn_counts_nothing(length):
    none = np.full((2, 3), -1)
    above = np.ones((2, length), bool)
    counts = shifted(above, none, none, shifts=5, rng=np.random.default_rng(0))
    for column in counts:
        assert column.shape == (5, 2)
        assert not column.any()
