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


def test_the_floor_of_the_loss_is_subtracted():
    losses = 10.0 ** curve(shift=-0.3)
    (trigger, peak, end), _, expected = found(curve(shift=-0.3))
    result = aftermath(losses + 0.7, trigger[0], peak[0], end[0], floor=0.7)
    np.testing.assert_allclose(result, [column[0] for column in expected], rtol=1e-9)


def test_bad_windows_are_named():
    with pytest.raises(ValueError, match="settle and history must be at least 1; they are 0 and 9"):
        aftermath(np.ones(99), *np.full((3, 1), -1), settle=0, history=9)
