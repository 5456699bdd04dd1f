"""The language experiment: its records are Adam's, made-up records are scored as made."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.errors import UserError
from experiments.spikes.language import outcome, run, task
from experiments.spikes.language.config import EXPERIMENT, LARGE, Config, Network
from phenodl.compiler import QUICKLY
from phenodl.data.text import help_topics
from phenodl.models.decoder import Sizes, parameter_count
from phenodl.models.losses import smoothing_floor

TINY = Network(width=8, layers=1, heads=2, hidden=8, length=6)
# Steps that make four chunks of one length, each of whole cadences: one program per training.
SHORT = Config(network=TINY, sequences=4, batch_size=2, steps=96, seeds=2, other_seeds=1, shifts=2)
STEPS, TRIGGER = 500, 300


@pytest.fixture(scope="module")
def short():
    recorder = InMemory()
    run.train(SHORT, recorder)
    return recorder.results


def made_up(seeds=5, false_alarm=False):
    """Runs that rise by 1.5 decades at step 300; B crosses 20 steps before, the norm 10.

    v decays by the factor .999 all the time.

    Before, the loss falls evenly; ``false_alarm`` lets B cross at step 150 too.
    """
    step = np.arange(STEPS)
    floor = smoothing_floor(len(help_topics().vocabulary), 0.1)
    excess = np.tile(10 ** (-step / 500.0), (seeds, 1))
    excess[:, TRIGGER : TRIGGER + 60] *= 10**1.5
    b, norm = np.full((seeds, STEPS), 50.0), np.ones((seeds, STEPS))
    b[:, TRIGGER - 20 : TRIGGER + 20] = 5000.0
    b[:, 150:155] = 5000.0 if false_alarm else 50.0
    norm[:, TRIGGER - 10 : TRIGGER + 40] = 50.0
    along = ("seed", "step")
    v = np.tile(0.999 ** (step + 1)[:, None], (seeds, 1, 5))  # no gradient feeds it
    over_layers = (*along, "layer")
    runs = xr.Dataset(
        {
            "loss": (along, (floor + excess).astype(np.float32)),
            "grad_norm": (along, norm),
            "threshold": (along, np.full((seeds, STEPS), 200.0)),
            "curvature_b": (along, b),
            "squared_gradient": (over_layers, 1e-9 * v),
            "second_moment": (over_layers, v / (1 - v)),
        },
        {"seed": np.arange(seeds), "step": step},
    )
    calm = (floor + 10 ** (-step / 500.0)).astype(np.float32)
    others = xr.Dataset(
        {"loss": (("seed", "b2", "step"), np.tile(calm, (2, 2, 1)))},
        {"seed": np.arange(2), "b2": np.array([0.99, 0.95], np.float32), "step": step},
    )
    return {"adam": runs, "other-decays": others}


def claims_of(analysis):
    return {claim.id.removeprefix("spikes-language/"): claim for claim in analysis.claims}


def test_made_up_runs_score_as_they_were_made():
    analysis = run.analyze(Config(shifts=20), made_up())
    claims = claims_of(analysis)
    assert claims["decay"].measured < 1e-6
    for name in ("spikes", "b-foretells", "gradient-foretells"):
        assert (claims[name].measured, claims[name].n) == (1, 5)
    # A mean over 10 steps passes its threshold at the first of them that is high enough.
    lead_b, lead_norm = claims["b-lead"].measured, claims["gradient-lead"].measured
    assert lead_b == pytest.approx(20, abs=2)
    assert lead_norm == pytest.approx(10, abs=2)
    assert claims["b-false"].measured == claims["gradient-false"].measured == 0
    assert claims["b2-0.95"].measured == claims["b2-0.99"].measured == pytest.approx(1.5, abs=0.1)
    assert {claim.verdict for claim in claims.values()} == {"holds"}
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_false_alarms_are_counted():
    runs = {"adam": made_up(false_alarm=True)["adam"]}
    analysis = run.analyze(Config(shifts=2), runs)
    claims = claims_of(analysis)
    assert (claims["b-false"].measured, claims["b-false"].verdict) == (1, "fails")
    assert claims["b-foretells"].measured == 0
    assert claims["gradient-foretells"].measured == 1


def test_records_are_those_of_a_training_that_learns(short):
    adam = short["adam"]
    np.testing.assert_allclose(
        adam.squared_gradient.sum("squared_gradient_0"), adam.grad_norm**2, rtol=1e-4
    )
    assert adam.threshold.values == pytest.approx(200)
    assert adam.curvature_b.sizes["step_2"] == 48
    assert (adam.loss[:, -10:].mean("step") < adam.loss[:, :10].mean("step")).all()
    floor = task.load(SHORT).floor
    assert float(adam.loss.min()) > floor


def test_other_decays_begin_as_the_first_and_part(short):
    own, others = short["adam"].loss[0], short["other-decays"].loss[0]
    np.testing.assert_allclose(others[:, 0], own[0], rtol=1e-5)
    assert np.abs(others.values - own.values).max() > 1e-3


def test_short_runs_are_analysed_without_spikes(short):
    analysis = run.analyze(SHORT, short)
    claims = claims_of(analysis)
    assert claims["spikes"].measured == 0
    assert claims["b-lead"].verdict == "undetermined"
    for name in ("around-trigger", "lead-times"):
        analysis.figures[name].draw_without_rendering()


def test_a_file_of_ones_own_is_shown_and_not_judged(tmp_path, short):
    path = tmp_path / "poem.txt"
    path.write_bytes(b"to be or not to be, that is the question " * 10)
    config = dataclasses.replace(SHORT, file=str(path), other_seeds=0)
    assert task.load(config).sizes.vocabulary == 14
    analysis = run.analyze(config, {"adam": short["adam"]})
    assert analysis.claims == []
    assert len(analysis.tables["seeds"]) == 2


@pytest.mark.parametrize("content", [None, b"", b"too short"])
def test_files_that_cannot_be_used_are_named(tmp_path, content):
    path = tmp_path / "poem.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"poem\.txt: (cannot be read|is empty|is too short)"):
        task.load(Config(file=str(path)))


def test_micro_batches_leave_the_loss_as_it_is():
    whole = Config(network=TINY, sequences=4, batch_size=4)
    known = task.load(whole)
    models = [
        task.problem(known, config)
        for config in (whole, dataclasses.replace(whole, micro_batches=2, remat=True))
    ]

    def losses():
        params = models[0].init(jax.random.key(0), models[0].data, {})
        batch = models[0].batch(models[0].data, jax.random.key(1), jnp.asarray(0))
        return [model.loss(params, batch) for model in models]

    np.testing.assert_allclose(*jax.jit(losses, compiler_options=dict(QUICKLY))(), rtol=1e-5)


def test_the_large_preset_has_187_million_parameters():
    sizes = Sizes(len(help_topics().vocabulary), **vars(LARGE.network))
    assert parameter_count(sizes) == pytest.approx(187e6, abs=1e6)


def test_over_median_compares_with_the_recent_past():
    norms = np.concatenate([np.full(250, 2.0), np.full(30, 8.0)])
    ratio = outcome.over_median(norms[None])[0]
    assert ratio[:250] == pytest.approx(1)
    assert ratio[254] == pytest.approx(2.5)
    assert ratio[279] == pytest.approx(4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 33),
        ("micro_batches", 3),
        ("smoothing", 1.0),
        ("steps", 0),
        ("other_seeds", 6),
        ("sequences", 0),
    ],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


@pytest.mark.parametrize("decays", [(1.5,), (0.99, 0.99), (0.999, 0.95)])
def test_other_decays_are_others(decays):
    with pytest.raises(ValueError, match=r"^other_b2 must be"):
        Config(other_seeds=1, other_b2=decays)


@pytest.mark.parametrize("steps", [1, 40])
def test_a_record_that_ends_before_the_detector_starts_determines_nothing(short, steps):
    cut = {name: part.isel(step=slice(steps)) for name, part in short.items()}
    cut["adam"] = cut["adam"].isel(step_2=slice(-(-steps // 2)))
    analysis = run.analyze(dataclasses.replace(SHORT, steps=steps), cut)
    assert {claim.verdict for claim in analysis.claims} == {"undetermined"}
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_quick_and_paper_train_the_same_network():
    quick, paper = EXPERIMENT.presets["quick"], EXPERIMENT.presets["paper"]
    assert (quick.network, quick.optimizer) == (paper.network, paper.optimizer)
