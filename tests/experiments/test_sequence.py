"""The sequence experiment: made-up records are scored as made, real ones obey Adam's laws."""

import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.spikes.scores import find_spikes
from experiments.spikes.sequence import measure, run
from experiments.spikes.sequence.config import EXPERIMENT, Config
from phenodl.models.losses import smoothing_floor
from phenodl.spikes import decoupling

TINY = Config(seeds=2, sequences=16, batch_size=8, layers=1, width=4, steps=100, shifts=3)
SEEDS, STEPS, LIMIT, B2 = 12, 500, 200.0, 0.999
FLOOR = smoothing_floor(64, 0.1)


@pytest.fixture(scope="module")
def tiny():
    recorder = InMemory()
    run.train(TINY, recorder)
    return recorder.results["adam"]


def made_up(decades=2.0, lead=15, fall=1e-3):
    """Each seed spikes once, at step 300; B rises ``lead`` steps ahead of it, for 30 steps.

    One leaf of four has gradients that fall from 1 to ``fall`` (squared) at step 100.
    """
    logs = np.tile(-np.arange(STEPS) / 500, (SEEDS, 1))
    logs[:, 300:340] += decades
    signal = np.full((SEEDS, STEPS), LIMIT / 4)
    signal[:, 300 - lead : 330 - lead] = 2 * LIMIT
    squares = np.ones((SEEDS, STEPS, 4))
    squares[:, 100:300, 1] = fall
    v, moments = np.zeros((SEEDS, 4)), []
    for step in range(STEPS):
        v = B2 * v + (1 - B2) * squares[:, step]
        moments.append(v / (1 - B2 ** (step + 1)))
    over = ("seed", "step")
    return xr.Dataset(
        {
            "loss": (over, FLOOR + 10**logs),
            "curvature_b": (("seed", "step_2"), signal[:, ::2]),
            "threshold": (over, np.full_like(signal, LIMIT)),
            "squared_gradient": ((*over, "squared_gradient_0"), squares),
            "second_moment": ((*over, "second_moment_0"), np.stack(moments, axis=1)),
        },
        {"seed": np.arange(SEEDS), "step": np.arange(STEPS)},
    )


def claims_of(runs, monkeypatch, drawn=False):
    monkeypatch.setattr(run, "leaves", lambda config: run.SHOWN)
    analysis = run.analyze(Config(seeds=SEEDS, shifts=20), {"adam": runs})
    if drawn:
        for figure in analysis.figures.values():
            figure.draw_without_rendering()
    return {claim.id.removeprefix("spikes-sequence/"): claim for claim in analysis.claims}


def test_made_up_spikes_are_scored_as_they_were_made(monkeypatch):
    claims = claims_of(made_up(), monkeypatch, drawn=True)
    for name in ("spikes", "before-peak", "before-trigger", "decoupled"):
        assert (claims[name].measured, claims[name].n) == (1, SEEDS)
        assert claims[name].verdict == "holds"
    # With g² = fall the recursion gives v = fall + (v - fall) b2^t: it falls slower than b2.
    assert 0 < claims["decay"].measured < 0.1
    assert claims["b-auc"].verdict == "holds"
    assert claims["before-trigger-chance"].measured == 1


def test_a_signal_that_always_warns_is_no_better_than_chance():
    runs = made_up()
    runs["curvature_b"] = xr.full_like(runs.curvature_b, 2 * LIMIT)
    high = measure.high_only(find_spikes(runs.loss, 0.3, 0.9, floor=FLOOR, width=10), 1.0)
    claims = {claim.id.split("/")[1]: claim for claim in run.spike_claims(Config(), runs, high)}
    assert claims["before-trigger"].measured == 1
    gain = claims["before-trigger-chance"]
    assert (gain.measured, gain.verdict, gain.n) == (0, "fails", SEEDS)


def test_chance_is_that_of_the_steps_away_from_spikes():
    runs = made_up()
    signal = np.full((SEEDS, STEPS // 2), LIMIT / 4)
    signal[:, 35] = 100 * LIMIT  # steps 70 and 71; the mean of five stays high until step 79
    runs["curvature_b"] = (("seed", "step_2"), signal)
    spikes = find_spikes(runs.loss, 0.3, 0.9, floor=FLOOR, width=10)
    calm = [  # with room for a horizon on both sides
        *range(150, int(spikes.trigger[0, 0]) - 100),
        *range(int(spikes.end[0, 0]) + 101, STEPS),
    ]
    expected = np.mean([at - 100 <= 79 for at in calm])
    assert 0 < expected < 1
    assert measure.by_chance(runs, spikes, 0.5) == pytest.approx(expected)


def test_a_late_warning_and_a_low_spike_do_not_count(monkeypatch):
    late = claims_of(made_up(lead=-60), monkeypatch)
    assert late["before-peak"].measured == late["before-trigger"].measured == 0
    low = claims_of(made_up(decades=0.6), monkeypatch, drawn=True)
    assert low["spikes"].measured == 0
    assert low["before-peak"].verdict == low["decay"].verdict == "undetermined"


def test_a_leaf_with_steady_gradients_does_not_decouple(monkeypatch):
    claims = claims_of(made_up(fall=1.0), monkeypatch)
    assert claims["decoupled"].measured == 0
    assert np.isnan(claims["decay"].measured)


def test_ten_steps_are_averaged_and_the_first_warning_counts():
    runs = made_up()
    spikes = find_spikes(runs.loss, 0.3, 0.9, floor=FLOOR, width=10)
    peak, trigger = np.full((SEEDS, 1), 320), spikes.trigger[:, :1]
    # Five measurements in a window: LIMIT / 4 each, then 2 LIMIT from step 286 on. The mean passes
    # LIMIT / 2 with the first of them, LIMIT with the third.
    spikes = spikes._replace(trigger=trigger)
    assert set(measure.leads(runs, spikes, peak, 0.5)) == {320 - 286}
    assert set(measure.leads(runs, spikes, peak, 1.0)) == {320 - 290}
    # A warning after the event, or long before the spike, is none of it.
    assert np.isnan(measure.leads(runs, spikes, np.full((SEEDS, 1), 289), 1.0)).all()
    early = spikes._replace(trigger=trigger + 300)
    assert np.isnan(measure.leads(runs, early, peak + 170, 1.0)).all()


def test_records_of_the_leaves_obey_adams_recursion(tiny):
    squares, corrected = (
        np.moveaxis(tiny[name].values.astype(float), 1, 2)
        for name in ("squared_gradient", "second_moment")
    )
    v = decoupling.uncorrected(corrected, B2)
    growth = v[..., 1:] - B2 * v[..., :-1]
    np.testing.assert_allclose(growth, (1 - B2) * squares[..., 1:], atol=1e-3 * v.max())
    whole = tiny.squared_gradient.sum("squared_gradient_0")
    np.testing.assert_allclose(whole, tiny.grad_norm**2, rtol=1e-4)


def test_the_leaves_shown_are_found_by_name(tiny):
    names = run.leaves(TINY)
    assert tiny.squared_gradient.sizes["squared_gradient_0"] == len(set(names)) == len(names)
    # One block: two tables; two norms and five dense layers in it; a norm and the head after it.
    assert len(names) == 2 + 2 * (2 + 5) + 2 * 2
    shown = run.shown(TINY, tiny).squared_gradient
    for place, name in enumerate(run.SHOWN):
        expected = tiny.squared_gradient.isel(squared_gradient_0=names.index(name))
        np.testing.assert_array_equal(shown.isel(squared_gradient_0=place), expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seeds", 0),
        ("width", 6),
        ("batch_size", 513),
        ("steps", 99),
        ("every", 11),
        ("height", 0.0),
    ],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


def test_the_paper_preset_has_eight_layers():
    assert EXPERIMENT.presets["paper"].layers == 8
