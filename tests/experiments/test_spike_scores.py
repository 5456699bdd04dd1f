"""The rooms that all experiments on spikes share: made-up records are scored as they are made."""

import numpy as np
import pytest
import xarray as xr

from experiments.spikes import figures, ledger, scores, stage_figure

SEEDS, STEPS, LIMIT = 4, 400, 200.0
FIRST = 130


def records():
    """Two spikes per seed, 8 steps after A crosses; λ_max crosses at one more place, in vain."""
    logs = np.tile(-np.arange(STEPS) / 100, (SEEDS, 1))
    a, top = np.full((2, SEEDS, STEPS), LIMIT / 2)
    for seed in range(SEEDS):
        for trigger in (FIRST + seed, FIRST + seed + 140):
            logs[seed, trigger : trigger + 10] += 1
            a[seed, trigger - 8 : trigger] = 1.2 * LIMIT
            top[seed, trigger - 20 : trigger] = 1.2 * LIMIT
        top[seed, 60] = 3 * LIMIT
    over = ("seed", "step")
    squares = np.where(np.arange(STEPS) % 140 < FIRST, 1e-8, 1.0)
    moments = np.zeros(STEPS)
    for step in range(STEPS):
        moments[step] = 0.99 * moments[step - 1] + 0.01 * squares[step] if step else 0.01
    corrected = moments / (1 - 0.99 ** np.arange(1, STEPS + 1))
    layers = {
        "squared_gradient": np.stack([squares, squares], axis=1),
        "second_moment": np.stack([corrected, corrected], axis=1),
    }
    return xr.Dataset(
        {
            "loss": (over, 10**logs),
            "curvature_a": (over, a),
            "lambda_max_adam": (over, top),
            "threshold": (over, np.full_like(a, LIMIT)),
            **{
                name: ((*over, "layer"), np.broadcast_to(each, (SEEDS, *each.shape)))
                for name, each in layers.items()
            },
        },
        coords={"seed": np.arange(SEEDS), "step": np.arange(STEPS)},
    )


@pytest.fixture(scope="module")
def scored():
    runs = records()
    spikes = scores.find_spikes(runs.loss, rise=0.3, b1=0.9)
    found = {name: scores.foresight(runs, name, spikes, shifts=20) for name in figures.PAIR}
    return runs, spikes, found


def test_spikes_and_alarms_are_those_that_were_made(scored):
    _, spikes, found = scored
    np.testing.assert_array_equal(spikes.count, 2)
    np.testing.assert_array_equal(spikes.trigger[:, 0], FIRST + np.arange(SEEDS))
    a, top = (found[name] for name in figures.PAIR)
    assert np.nanmedian(a.leads) == 8
    assert np.nanmedian(top.leads) == 20
    assert a.counts.false.sum() == 0
    assert top.counts.false.sum() == SEEDS
    assert ledger.precision_gap("toy", a, top).measured == pytest.approx(1 - 2 / 3)
    assert ledger.recall("toy", "curvature_a", a).measured == 1
    assert ledger.above_chance("toy", "curvature_a", a).verdict == "holds"
    assert ledger.above_chance("toy", "lambda_max_adam", top).measured < 2 / 3


def test_a_signal_of_noise_is_no_better_than_chance(scored):
    runs, spikes, _ = scored
    noise = np.random.default_rng(0).uniform(0, 1.05 * LIMIT, runs.loss.shape)
    noisy = scores.foresight(
        runs.assign(curvature_a=(runs.loss.dims, noise)), "curvature_a", spikes
    )
    assert ledger.area("toy", "curvature_a", noisy).verdict != "holds"
    assert ledger.above_chance("toy", "curvature_a", noisy).verdict != "holds"


def test_what_is_measured_now_and_then_holds_until_the_next_time():
    runs = xr.Dataset(
        {
            "loss": (("seed", "step"), np.ones((1, 11))),
            "curvature_b": (("seed", "step_4"), np.array([[1.0, 5.0, 3.0]])),
        }
    )
    held = scores.each_step(runs, "curvature_b")
    assert held.tolist() == [[1, 1, 1, 1, 5, 5, 5, 5, 3, 3, 3]]
    # Eight steps back from the present one there are two measurements.
    mean = scores.each_step(runs, "curvature_b", width=8)
    np.testing.assert_allclose(mean, [[1, 1, 1, 1, 3, 3, 3, 3, 4, 4, 4]])


def test_stages_begin_where_the_record_says(scored):
    runs, spikes, _ = scored
    found = scores.find_stages(runs, spikes)
    np.testing.assert_array_equal(found.crossing[:, 0], spikes.trigger[:, 0] - 8)
    np.testing.assert_array_equal(found.start[:, 1], spikes.end[:, 0])
    assert (found.decoupled[:, 0] < found.crossing[:, 0]).all()
    np.testing.assert_allclose(scores.decay_factors(runs, 0.99), 0.99, rtol=1e-6)


def test_figures_survive_records_without_spikes(scored):
    runs, _, _ = scored
    quiet = runs.assign(loss=runs.loss * 0 + 1.0)
    spikes = scores.find_spikes(quiet.loss, rise=0.3, b1=0.9)
    found = {name: scores.foresight(quiet, name, spikes, shifts=2) for name in figures.PAIR}
    stages = scores.find_stages(quiet, spikes)
    drawn = [
        figures.curvatures(quiet, spikes),
        figures.around_trigger(quiet, spikes),
        figures.lead_times(found),
        figures.second_moments(quiet, spikes, ["first", "second"]),
        stage_figure.stages(quiet, spikes, stages),
    ]
    for figure in drawn:
        figure.canvas.draw()
    assert ledger.recall("toy", "curvature_a", found["curvature_a"]).verdict == "undetermined"
    assert np.isnan(ledger.lead("toy", "curvature_a", found["curvature_a"]).measured)
