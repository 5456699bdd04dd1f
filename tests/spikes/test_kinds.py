"""The kinds of spikes on curves made to be of one kind, found by the detector itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.spikes.detect import detect
from phenodl.spikes.kinds import KINDS, aftermath, aftermath_of_runs

STEPS = 900
DETECT = jax.jit(jax.vmap(lambda losses: detect(losses, max_spikes=3)))


def curve(slope=-0.001, shift=0.0, height=1.0, back=True):
    """Log10 losses on a straight line, a bump from step 300 to 340 and a shift of what follows."""
    steps = np.arange(STEPS)
    logs = slope * steps
    logs[300:] += shift
    logs[300:340] += height * np.concatenate([np.linspace(0.1, 1, 10), np.linspace(1, 0, 30)])
    if not back:
        logs[310:] = logs[309]
    return logs


def found(*curves, **rules):
    """The detector's tables and heights, and what is made of them."""
    losses = 10.0 ** np.stack(curves)
    with jax.enable_x64(True):
        spikes, _ = DETECT(jnp.asarray(losses))
    tables = [np.asarray(column) for column in (spikes.trigger, spikes.peak, spikes.end)]
    return tables, np.asarray(spikes.height), aftermath_of_runs(losses, *tables, **rules)


def names(result):
    return [KINDS[kind] if kind >= 0 else None for kind in result.kind[:, 0]]


def test_each_kind_on_a_falling_loss():
    (*_, end), _, result = found(curve(), curve(shift=-0.3), curve(shift=0.6), curve(back=False))
    assert names(result) == ["neutral", "benign", "malignant", "catastrophic"]
    # The level is the line of 19 steps ago, and is lowest in the last of the 200 steps.
    line = -0.001 * (end[:3, 0] + 199 - 19)
    shifts = np.array([0.0, -0.3, 0.6])
    np.testing.assert_allclose(result.expected[:3, 0], line, atol=1e-9)
    np.testing.assert_allclose(result.after[:3, 0], line + shifts, atol=1e-9)
    assert np.isnan(result.after[3, 0])
    assert (result.kind[:, 1:] == -1).all()


def test_what_training_gains_anyway_is_not_the_spikes():
    """Much the same loss after the spike is benign if it stood before, and neutral if it fell."""
    standing, falling = curve(slope=0.0, shift=-0.2), curve(slope=-0.001)
    *_, result = found(standing, falling)
    assert result.after[1, 0] < result.base[1, 0] - 0.1
    assert names(result) == ["benign", "neutral"]


def test_a_rising_trend_is_not_continued():
    *_, result = found(curve(slope=2e-4, shift=-0.05))
    np.testing.assert_array_equal(result.expected[0, 0], result.base[0, 0])
    assert names(result) == ["neutral"]


def test_base_is_that_of_the_detector():
    curves = curve(slope=-0.003), curve(slope=0.0), curve(shift=0.6)
    (_, peak, _), height, result = found(*curves)
    for run, logs in enumerate(curves):
        assert logs[peak[run, 0]] - result.base[run, 0] == pytest.approx(height[run, 0], abs=1e-9)


def test_divergence_is_catastrophic_at_once():
    logs = curve(back=False)
    logs[330:] = np.inf
    *_, result = found(logs)
    assert names(result) == ["catastrophic"]


def test_a_loss_that_is_lost_before_it_settled_is_catastrophic():
    (trigger, peak, end), _, _ = found(curve())
    for delay, kind in ((199, "catastrophic"), (200, "neutral")):
        losses = 10.0 ** curve()
        losses[end[0, 0] + delay :] = np.nan
        assert names(aftermath_of_runs(losses[None], trigger[:1], peak[:1], end[:1])) == [kind]


def test_the_end_of_the_record_leaves_the_question_open():
    (trigger, peak, end), _, _ = found(curve(), curve(back=False))
    losses = 10.0 ** curve()
    for length, kind in ((end[0, 0] + 199, -1), (end[0, 0] + 200, 0)):
        assert aftermath(losses[:length], trigger[0], peak[0], end[0]).kind[0] == kind
    losses = 10.0 ** curve(back=False)
    for length, kind in ((peak[1, 0] + 201, -1), (peak[1, 0] + 202, 3)):
        assert aftermath(losses[:length], trigger[1], peak[1], end[1]).kind[0] == kind


def test_a_second_spike_cuts_the_first_ones_aftermath_short():
    logs = np.zeros(STEPS)
    logs[300:310] = 2.0
    logs[310:] = 0.5
    logs[360:370] = 2.0
    logs[370:] = -0.5
    (trigger, *_), _, result = found(logs)
    assert (trigger[0] >= 0).tolist() == [True, True, False]
    assert [KINDS[kind] for kind in result.kind[0, :2]] == ["malignant", "benign"]
    np.testing.assert_allclose(result.base[0, :2], [0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(result.after[0, :2], [0.5, -0.5], atol=1e-12)


def test_a_table_without_padding_leaves_its_last_spike_open():
    """What follows the first of these two spikes would look like its own gain."""
    logs = np.zeros(STEPS)
    logs[300:310] = 2.0
    logs[310:] = 0.5
    logs[360:370] = 2.5
    logs[370:] = -1.0
    table, _, whole = found(logs)
    assert names(whole) == ["malignant"]
    for room, kinds in ((1, [-1]), (2, [2, -1])):
        result = aftermath(10.0**logs, *(column[0, :room] for column in table))
        assert result.kind.tolist() == kinds
        assert np.isnan([result.after[-1], result.expected[-1]]).all()
    lost = 10.0 ** np.where(np.arange(STEPS) < 365, logs, np.inf)
    trigger, peak, _ = (column[0, 1:2] for column in table)
    assert KINDS[aftermath(lost, trigger, peak, np.array([-1])).kind[0]] == "catastrophic"


def test_the_floor_of_the_loss_is_subtracted():
    losses = 10.0 ** curve(shift=-0.3)
    table, _, expected = found(curve(shift=-0.3))
    result = aftermath_of_runs(losses[None] + 0.7, *table, floor=0.7)
    np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_the_trend_is_laid_through_the_history_alone():
    """A loss that falls fast and, for the last 60 steps before the spike, slowly."""
    bend = curve() + 0.009 * np.maximum(240 - np.arange(STEPS), 0)
    bend[340:] -= 0.3
    (_, _, end), _, short = found(bend, history=30)
    line = -0.001 * (end[0, 0] + 199 - 19)
    np.testing.assert_allclose(short.expected[0, 0], line, atol=1e-9)
    *_, long = found(bend, history=200)
    # The level is the loss of 19 steps ago; its lowest is that of step 299.
    level = bend[280 - 200 : 280 + 1]
    ahead = np.arange(len(level)) - np.arange(len(level)).mean()
    slope = (ahead * level).sum() / (ahead**2).sum()
    assert slope < -0.002
    np.testing.assert_allclose(
        long.expected[0, 0], bend[280] + slope * (end[0, 0] + 199 - 299), atol=1e-9
    )
    assert names(short) + names(long) == ["benign", "neutral"]


@pytest.mark.parametrize(
    ("tolerance", "kinds"),
    [
        (0.25, ["benign", "malignant"]),
        (0.32, ["neutral", "malignant"]),
        (0.4, ["neutral", "neutral"]),
    ],
)
def test_levels_within_the_tolerance_are_the_same(tolerance, kinds):
    *_, result = found(curve(shift=-0.3), curve(shift=0.6), tolerance=tolerance)
    assert 0.32 < result.after[1, 0] - result.base[1, 0] < 0.4
    assert names(result) == kinds


def test_the_level_looks_back_as_far_as_b1_says():
    for b1, window in ((0.9, 20), (0.5, 4)):
        (*_, end), _, result = found(curve(), b1=b1, settle=100)
        before, after = 299 - (window - 1), end[0, 0] + 99 - (window - 1)
        np.testing.assert_allclose(result.base[0, 0], -0.001 * before, atol=1e-9)
        np.testing.assert_allclose(result.after[0, 0], -0.001 * after, atol=1e-9)


def test_what_was_before_the_start_is_forgotten():
    dip = curve()
    dip[10:40] = -2.0
    for start, base, kind in ((50, dip[280], "neutral"), (0, -2.0, "malignant")):
        *_, result = found(dip, start=start)
        assert result.base[0, 0] == pytest.approx(base, abs=1e-9)
        assert names(result) == [kind]


@pytest.mark.parametrize(("runs", "spikes"), [(0, 3), (2, 0), (0, 0)])
def test_no_runs_and_no_spikes(runs, spikes):
    result = aftermath_of_runs(np.ones((runs, 99)), *np.zeros((3, runs, spikes), int))
    assert [column.shape for column in result] == [(runs, spikes)] * 4
    assert result.kind.dtype.kind == "i"


def test_bad_windows_are_named():
    with pytest.raises(ValueError, match="settle and history must be at least 1; they are 0 and 9"):
        aftermath(np.ones(99), *np.full((3, 1), -1), settle=0, history=9)
