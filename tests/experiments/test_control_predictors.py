"""Predictors held against each other: what is scored, claimed and drawn."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments.claims import bootstrap
from experiments.control.names import LANGUAGE, SEQUENCE, SINE, TASKS
from experiments.control.predictors import ledger, run
from experiments.control.predictors.catalogue import PREDICTORS, predictors
from experiments.control.predictors.config import EXPERIMENT, Config
from experiments.control.predictors.measure import score, shifted_leads
from experiments.control.predictors.names import LABELS, REFERENCE
from phenodl.spikes.detect import Spikes

SEEDS, STEPS, TRIGGERS = 6, 600, (200, 400)
CONFIG = Config(
    tasks=(SINE,), predictors=(REFERENCE, "decoupling", "reversal"), free="decoupling", seeds=SEEDS
)


@pytest.fixture(scope="module")
def recorded():
    """Runs with two spikes each, which A announces 5 steps ahead and another signal 20."""
    loss = np.full((SEEDS, STEPS), 1e-3)
    exact, free, quiet = np.full((3, SEEDS, STEPS), 0.5)
    for seed in range(SEEDS):
        for at in TRIGGERS:
            loss[seed, at + seed : at + seed + 10] = 1.0
            exact[seed, at + seed - 5 : at + seed + 5] = 1.1
            free[seed, at + seed - 20 : at + seed + 5] = 1.1
    signals = {
        REFERENCE: exact,
        "decoupling": free * PREDICTORS["decoupling"].threshold,
        "reversal": quiet * PREDICTORS["reversal"].threshold,
    }
    values = {"loss": loss.astype(np.float32)} | signals
    return xr.Dataset({name: (("seed", "step"), curve) for name, curve in values.items()}).assign(
        seed=np.arange(SEEDS), step=np.arange(STEPS)
    )


@pytest.fixture(scope="module")
def analysis(recorded):
    return run.analyze(CONFIG, {SINE: recorded})


def test_signals_are_held_against_their_own_thresholds(recorded):
    found = score(CONFIG, SINE, recorded).found
    leads = {name: np.unique(each.leads[np.isfinite(each.leads)]) for name, each in found.items()}
    assert leads[REFERENCE].tolist() == [5]
    assert leads["decoupling"].tolist() == [20]
    assert leads["reversal"].size == 0
    assert found["reversal"].counts.foreseen.sum() == 0
    assert found["decoupling"].counts.foreseen.sum() == SEEDS * len(TRIGGERS)


def test_claims_measure_what_was_built_in(analysis):
    claims = {claim.id.removeprefix("control-predictors/sine-"): claim for claim in analysis.claims}
    assert claims["a-recall"].measured == claims["free-recall"].measured == 1
    assert claims["free-lead"].measured == 15
    # Of the 30 steps ahead of a trigger A is high in 5, the other in 20, and in none elsewhere.
    assert claims["free-auc"].measured == pytest.approx((20 - 5) / 30 / 2)
    assert claims["free-auc"].verdict == claims["free-lead"].verdict == "holds"


def test_tables_and_figures_name_every_predictor(analysis):
    labels = [LABELS[name] for name in CONFIG.predictors]
    assert [row["signal"] for row in analysis.tables[SINE]] == labels
    assert [row["predictor"] for row in analysis.tables["costs"]] == labels
    for figure in analysis.figures.values():
        figure.draw_without_rendering()
    ticks = [label.get_text() for label in analysis.figures["areas"].axes[0].get_yticklabels()]
    assert ticks == labels


def test_the_exact_costs_second_derivatives_and_the_free_none():
    rows = {row["predictor"]: row for row in ledger.costs(Config())}
    assert rows[LABELS[REFERENCE]]["second derivatives"] == 1
    assert rows[LABELS["curvature_b_every_5"]]["second derivatives"] == pytest.approx(1 / 5)
    free = rows[LABELS[Config().free]]
    assert (free["second derivatives"], free["further gradients"]) == (0, 0)


def test_few_seeds_give_no_interval():
    values = np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    estimate, count = ledger.over_seeds(values, np.mean)
    assert (estimate.measured, count) == (2.5, 4)
    assert all(math.isnan(end) for end in estimate.interval)
    many = np.append(values, 5.0)
    assert ledger.over_seeds(many, np.mean) == (bootstrap(many[np.isfinite(many)], np.mean), 5)


def test_a_signal_that_is_always_high_leads_by_the_whole_run_at_any_time():
    column = jnp.array([[100, -1]])
    table = Spikes(jnp.ones(1, int), column, column, column, jnp.ones((1, 2)))
    spikes = jax.tree.map(np.asarray, table)
    always = shifted_leads(np.ones((1, 200), bool), spikes)
    assert set(always) == {100.0}
    assert shifted_leads(np.zeros((1, 200), bool), spikes).size == 0


def test_training_records_every_predictor():
    from recorders import InMemory

    from experiments.control import tasks

    short = tasks.task(SINE)._replace(steps=40)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tasks, "task", lambda name: short)
        recorder = InMemory()
        run.train(dataclasses.replace(CONFIG, seeds=2), recorder)
    runs = recorder.results[SINE]
    assert runs.sizes["seed"] == 2
    assert np.isfinite(runs.loss).all()
    for name in CONFIG.predictors:
        assert np.isfinite(runs[name].isel(step=slice(1, None))).all()


def test_every_name_has_a_predictor_that_watches_some_training():
    assert set(predictors(tuple(LABELS), SINE)) == set(PREDICTORS)
    for task in (SEQUENCE, LANGUAGE):
        assert set(predictors(tuple(LABELS), task)) == set(LABELS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tasks", ()),
        ("tasks", ("cosine",)),
        ("tasks", (SINE, SINE)),
        ("predictors", ("reversal",)),
        ("predictors", ("oracle",)),
        ("free", REFERENCE),
        ("shifts", 0),
        ("transformer_seeds", 0),
    ],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


def test_the_paper_preset_trains_all():
    assert EXPERIMENT.presets["paper"].tasks == TASKS
