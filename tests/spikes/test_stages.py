"""The stages of spikes on Adam's own quadratics, where the borders are known, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.spikes.detect import detect
from phenodl.spikes.stages import STAGES, Stages, stages, stages_of_runs

ETA, B1, EPS = 0.15, 0.9, 1e-8


LENGTH = 1600


@functools.cache
def quadratic(b2):
    """Adam on θ²/2 from θ = 1, number by number: g², v̂, preconditioned curvature, loss."""
    theta, m, v, rows = 1.0, 0.0, 0.0, []
    for count in range(1, LENGTH + 1):
        g = theta
        m, v = B1 * m + (1 - B1) * g, b2 * v + (1 - b2) * g**2
        corrected = v / (1 - b2**count)
        factor = (1 - B1) / (1 + B1) / (1 - B1**count)
        diagonal = 1 / (corrected**0.5 + EPS)
        rows.append((g**2, corrected, factor * diagonal, theta**2 / 2))
        theta -= ETA * diagonal * m / (1 - B1**count)
    return np.array(rows).T


def spikes(b2):
    with jax.enable_x64(True):
        found = DETECT(jnp.asarray(quadratic(b2)[3]))
    return [np.asarray(column) for column in found[1:4]]


DETECT = jax.jit(lambda losses: detect(losses, max_spikes=3)[0])


def signals(b2):
    squares, second, curvature, _ = quadratic(b2)
    return {
        "curvature": curvature,
        "threshold": np.full(LENGTH, 2 / ETA),
        "squared_gradient": squares,
        "second_moment": second,
    }


KNOWN = [(0.95, 197, 206), (0.98, 432, 460), (0.99, 789, 846), (0.995, 1436, 1547)]
"""β2 with the steps at which the curvature first crosses 2/η and at which the loss peaks."""


@pytest.mark.parametrize(("b2", "crossing", "peak"), KNOWN)
def test_the_first_spike_on_a_quadratic(b2, crossing, peak):
    found = stages(*spikes(b2), **signals(b2))
    squares, second, *_ = quadratic(b2)
    assert found.start.tolist() == [0, -1, -1]
    assert found.crossing.tolist() == [crossing, -1, -1]
    assert abs(found.back[0] - peak) <= 2
    # v_t = b2 v_{t-1} + (1 - b2) g_t² grows where g_t² > v_{t-1}.
    growing = np.flatnonzero(squares[1:] > second[:-1]) + 1
    assert found.growth[0] == growing[growing > crossing][0]
    assert found.decoupled[0] == np.flatnonzero(squares < 0.1 * second)[0]


@pytest.mark.parametrize(("b2", "crossing"), [row[:2] for row in KNOWN])
def test_the_second_stage_ends_when_b2_to_the_t_says_so(b2, crossing):
    # Half-way through, v is known. Without a gradient it takes this many steps to (η f / 2)².
    squares, second, *_ = quadratic(b2)
    begin = crossing // 2
    critical = (ETA * (1 - B1) / (1 + B1) / 2) ** 2
    rest = np.log(critical / (second[begin] * (1 - b2 ** (begin + 1)))) / np.log(b2)
    assert squares[begin] < 0.01 * second[begin]
    assert abs(begin + rest - crossing) < 2


STEPS = np.arange(200)


def by_hand(
    end=150, above=((90, 112),), quiet=((40, 105),), low=0.0, lowest=104, lost=200, **rules
):
    """A spike from step 100, highest at 110, whose curvature, g² and v̂ do as they are told."""
    curvature, squares = np.ones((2, 200))
    for first, last in above:
        curvature[first : last + 1] = 3.0
    for first, last in quiet:
        squares[first:last] = low
    second = 1 + abs(STEPS - lowest) / 200
    for signal in (curvature, squares, second):
        signal[lost:] = np.nan
    found = stages_of_runs(
        *np.array([[[100]], [[110]], [[end]]]),
        curvature=curvature[None],
        threshold=np.full((1, 200), 2.0),
        squared_gradient=squares[None],
        second_moment=second[None],
        **rules,
    )
    return found.borders[0, 0].tolist()


def test_borders_by_hand():
    assert by_hand() == [0, 40, 90, 105, 113, 150]


def test_short_gaps_do_not_end_the_alarm_and_the_latest_alarm_counts():
    assert by_hand(above=[(20, 30), (85, 88), (95, 112)]) == [0, 40, 85, 105, 113, 150]
    assert by_hand(above=[(70, 80), (95, 112)]) == [0, 40, 95, 105, 113, 150]


def test_an_alarm_that_is_over_before_v_grows_leaves_no_fourth_stage():
    assert by_hand(above=[(90, 95)]) == [0, 40, 90, 105, 105, 150]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"above": []}, [0, 40, -1, 105, -1, 150]),  # nothing announced the spike
        ({"quiet": [(95, 100)]}, [0, -1, 90, 105, 113, 150]),  # g² is large until the crossing
        ({"lowest": 130}, [0, 40, 90, -1, 113, 150]),  # v̂ falls beyond the peak
        ({"above": [(90, 199)]}, [0, 40, 90, 105, -1, 150]),  # the curvature stays
        ({"end": -1}, [0, 40, 90, 105, 113, -1]),
        ({"end": -1, "above": [(90, 199)], "lost": 120}, [0, 40, 90, 105, -1, -1]),  # divergence
        ({"end": -1, "lost": 115}, [0, 40, 90, 105, 113, -1]),  # the same after the return
    ],
    ids=["no-crossing", "no-decay", "no-growth", "no-return", "no-end", "lost", "lost-later"],
)
def test_what_never_comes_is_minus_one(changes, expected):
    assert by_hand(**changes) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"ratio": 0.5, "low": 0.3}, [0, 40, 90, 105, 113, 150]),
        ({"ratio": 0.1, "low": 0.3}, [0, -1, 90, 105, 113, 150]),
        ({"lasting": 5, "quiet": [(20, 25), (40, 105)]}, [0, 20, 90, 105, 113, 150]),
        ({"lasting": 6, "quiet": [(20, 25), (40, 105)]}, [0, 40, 90, 105, 113, 150]),
        ({"gap": 6, "above": [(85, 88), (95, 112)]}, [0, 40, 85, 105, 113, 150]),
        ({"gap": 5, "above": [(85, 88), (95, 112)]}, [0, 40, 95, 105, 113, 150]),
        ({"horizon": 35, "above": [(60, 65)]}, [0, 40, 60, 105, 105, 150]),
        ({"horizon": 34, "above": [(60, 65)]}, [0, 40, -1, 105, -1, 150]),
        ({"horizon": 24, "above": [(70, 75)]}, [0, 40, -1, 105, -1, 150]),
    ],
    ids=str,
)
def test_each_rule_moves_its_border(rules, expected):
    assert by_hand(**rules) == expected


def test_durations_need_both_borders():
    columns = [np.array([step]) for step in (0, 40, -1, 105, 113, 150)]
    assert Stages(*columns).durations.tolist() == [[40, -1, -1, 8, 37]]


def test_steps_not_measured_are_not_above():
    curvature = np.where((STEPS >= 90) & (STEPS < 120), 3.0, 1.0)
    curvature[STEPS % 5 > 0] = np.nan
    rest = {name: np.ones(200) for name in ("squared_gradient", "second_moment")}
    found = stages(
        *np.array([[100], [110], [150]]), curvature=curvature, threshold=np.full(200, 2.0), **rest
    )
    assert (found.crossing[0], found.back[0]) == (90, 116)


def test_each_spike_begins_where_the_last_has_ended():
    alarm = (abs(STEPS - 55) <= 10) | ((STEPS >= 85) & (STEPS <= 125))  # up again inside the first
    found = stages(
        *np.array([[50, 120, -1], [55, 125, -1], [100, -1, -1]]),
        curvature=np.where(alarm, 3.0, 1.0),
        threshold=np.full(200, 2.0),
        squared_gradient=np.where(abs(STEPS - 60) < 20, 1.0, 0.0),
        second_moment=np.where((STEPS > 52) & (STEPS < 110), 100.0, 2.0),
    )
    first, second, padding = found.borders.tolist()
    assert first == [0, 0, 45, 53, 66, 100]
    assert second == [100, 100, 100, -1, 126, -1]
    assert padding == [-1] * 6
    assert found.durations.tolist() == [[0, 45, 8, 13, 34], [0, 0, -1, -1, -1], [-1] * 5]
    assert found.durations.shape[-1] == len(STAGES)


def test_many_runs_are_each_by_itself():
    b2s = [0.95, 0.98]
    tables = [np.stack(column) for column in zip(*map(spikes, b2s), strict=True)]
    batched = {name: np.stack([signals(b2)[name] for b2 in b2s]) for name in signals(0.95)}
    together = stages_of_runs(*tables, **batched)
    assert together.durations.shape == (2, 3, 5)
    for run, b2 in enumerate(b2s):
        alone = stages(*spikes(b2), **signals(b2))
        np.testing.assert_array_equal(together.borders[run], alone.borders)


@pytest.mark.parametrize(("runs", "count"), [(0, 3), (2, 0), (0, 0)])
def test_no_runs_and_no_spikes(runs, count):
    names = ("curvature", "threshold", "squared_gradient", "second_moment")
    found = stages_of_runs(
        *np.zeros((3, runs, count), int), **{name: np.ones((runs, 9)) for name in names}
    )
    assert found.durations.shape == (runs, count, 5)
    assert found.crossing.dtype.kind == "i"
