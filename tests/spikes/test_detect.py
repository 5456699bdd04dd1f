"""The spike detector on curves with known spikes, and against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.spike_detector import find_spikes

from phenodl.spikes.detect import detect, detector, log_excess, trailing_mean, update

STEPS = 400


DETECT = jax.jit(detect, static_argnames=("b1", "start", "max_spikes"))


def table(losses, **options):
    """The spikes as tuples (trigger, peak, end, height)."""
    spikes, _ = DETECT(jnp.asarray(losses), **options)
    rows = zip(*map(np.asarray, spikes[1:]), strict=True)
    return [row for row in rows if row[0] >= 0]


def with_bumps(*bumps, steps=STEPS):
    """A slow decay with bumps (first step, rising steps, height in decades, falling steps)."""
    logs = -np.arange(steps) / 200
    for first, rising, height, falling in bumps:
        shape = np.concatenate(
            [np.linspace(0, height, rising + 1)[1:], np.linspace(height, 0, falling + 1)[1:]]
        )
        logs[first : first + len(shape)] += shape
    return 10**logs


def test_smooth_decay_has_no_spikes(x64):
    assert table(with_bumps()) == []


def test_a_bump_is_found_with_its_peak_and_height(x64):
    # It rises by .2 a step less the decay of .005, from a level 19 steps old, .095 above the loss.
    ((trigger, peak, end, height),) = table(with_bumps((150, 10, 2.0, 40)), rise=0.3)
    assert (trigger, peak) == (152, 159)
    # The level falls by .055 a step, 19 steps after the loss, until half of its rise is left.
    assert end == 159 + 19 + np.ceil(height / 2 / 0.055)
    assert height == pytest.approx(2.0 - 0.095 - 0.05, abs=1e-9)


def test_ring_down_does_not_split_a_spike(x64):
    ringing = with_bumps((150, 5, 2.0, 5), (162, 5, 1.5, 5), (174, 5, 1.0, 5))
    assert len(table(ringing)) == 1


def test_two_spikes_apart_are_two(x64):
    spikes = table(with_bumps((100, 5, 1.0, 10), (250, 5, 0.5, 10)))
    assert [trigger for trigger, *_ in spikes] == [102, 254]
    assert len(table(with_bumps((100, 5, 1.0, 10), (250, 5, 0.3, 10)))) == 1


def test_nothing_before_the_start(x64):
    early = with_bumps((20, 5, 2.0, 10))
    assert table(early) == []
    assert len(table(early, start=10)) == 1


def test_a_spike_that_does_not_end_is_open(x64):
    ((*_, end, height),) = table(10 ** np.where(np.arange(STEPS) < 300, -3.0, 0.0))
    assert end == -1
    assert height == pytest.approx(3.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_divergence_ends_the_record(x64, bad):
    losses = with_bumps((100, 5, 1.0, 10), (300, 40, 6.0, 10))
    losses[320:] = bad
    losses[350:] = 1e-9
    spikes = table(losses)
    assert [spike[2] for spike in spikes] == [spikes[0][2], -1]
    assert spikes[1][1] == 319
    assert np.isfinite(spikes[1][3])
    np.testing.assert_array_equal(spikes, table(losses[:320]))


def test_a_full_table_still_counts(x64):
    losses = jnp.asarray(with_bumps(*((first, 2, 1.0, 2) for first in range(100, 400, 50))))
    spikes, seen = DETECT(losses, max_spikes=2)
    assert (int(spikes.count), spikes.trigger.shape) == (6, (2,))
    assert int(seen.triggered.sum()) == 6


@pytest.mark.parametrize("rise", [0.1, 0.3])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_random_curves_against_plain_python(rise, seed):
    rng = np.random.default_rng(seed)
    steps = np.exp(rng.normal(-4, 2)) * rng.standard_t(2, STEPS)
    logs = np.clip(np.cumsum(steps), -100, 100)
    with jax.enable_x64(True):
        found = BATCHED(jnp.asarray(10 ** logs[None]), rise)
    expected = find_spikes((10**logs).tolist(), rise)
    assert int(found.count[0]) == len(expected)
    for i, (trigger, peak, end, height) in enumerate(expected):
        got = [int(column[0, i]) for column in (found.trigger, found.peak, found.end)]
        assert got == [trigger, peak, -1 if end is None else end]
        assert float(found.height[0, i]) == pytest.approx(height, abs=1e-9)


BATCHED = jax.jit(
    jax.vmap(lambda x, rise: detect(x, rise=rise, max_spikes=STEPS)[0], in_axes=(0, None))
)


def test_many_runs_are_each_by_itself(x64):
    curves = [with_bumps((150, 10, 2.0, 40)), with_bumps(), with_bumps((100, 5, 1.0, 10))]
    curves[2][300:] = np.nan  # what a diverged run leaves must not reach its neighbours
    batched = jax.jit(jax.vmap(detect))(jnp.asarray(np.stack(curves)))
    for run, curve in enumerate(curves):
        alone = jax.tree.leaves(DETECT(jnp.asarray(curve)))
        for many, one in zip(jax.tree.leaves(batched), alone, strict=True):
            np.testing.assert_array_equal(many[run], one)


def test_one_loss_at_a_time_sees_the_same(x64):
    losses = jnp.asarray(with_bumps((150, 10, 2.0, 40)))
    _, whole = DETECT(losses)
    step = jax.jit(update)
    state, seen = detector(20), []
    for log_loss in np.asarray(log_excess(losses))[:220]:
        state, now = step(state, log_loss)
        seen.append(now)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *seen)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:220]), stacked, whole)


def test_the_loss_floor_is_subtracted(x64):
    losses = with_bumps((150, 10, 2.0, 40))
    np.testing.assert_allclose(table(losses + 0.7, floor=0.7), table(losses), rtol=1e-9)


def test_single_precision_at_the_bottom():
    assert table(np.zeros(STEPS, np.float32)) == []
    ((trigger, *_),) = table(np.where(np.arange(STEPS) < 300, 0, 1e-30).astype(np.float32))
    assert trigger == 300


def test_trailing_mean_is_numpys(x64):
    losses = np.random.default_rng(0).exponential(size=50)
    expected = [losses[max(0, t - 9) : t + 1].mean() for t in range(50)]
    np.testing.assert_allclose(trailing_mean(jnp.asarray(losses)), expected, rtol=1e-12)


def test_bad_b1():
    with pytest.raises(ValueError, match=r"b1 must be in \[0, 1\), got 1.0"):
        detect(jnp.ones(10), b1=1.0)


@pytest.mark.parametrize(
    "losses", [np.zeros(0, np.float32), np.ones(9, np.int32), np.ones((2, 9), np.float32)]
)
def test_bad_losses(losses):
    with pytest.raises(ValueError, match=r"losses must be floating numbers.* got .*\["):
        jax.jit(detect)(losses)


def test_a_window_longer_than_the_record_sees_all_of_it():
    losses = with_bumps((100, 5, 1.0, 10)).astype(np.float32)
    assert table(losses, b1=1 - 1e-12) == table(losses, b1=1 - 2 / len(losses))
