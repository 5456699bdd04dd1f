"""The digits experiment: its records obey Adam's laws, made-up records are scored as made."""

import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.spikes.digits import run
from experiments.spikes.digits.config import EXPERIMENT, Config
from experiments.spikes.scores import SIGNALS
from phenodl.data.images import digits
from phenodl.models import cnn
from phenodl.spikes import decoupling

SHORT = Config(seeds=2, images=6, steps=100, products=2, plain_products=2, every=20, shifts=3)
SEEDS, STEPS, LIMIT = 5, 400, 200.0


@pytest.fixture(scope="module")
def short():
    recorder = InMemory()
    run.train(SHORT, recorder)
    return recorder.results


def made_up(false_alarms=2):
    """Runs in which A crosses 8 steps before each of two spikes, and λ_max more often.

    λ_max crosses 20 steps before each spike, and ``false_alarms`` times without a spike.
    """
    step = np.arange(STEPS)
    first = 120 + 5 * np.arange(SEEDS)
    logs = np.tile(-step / 100, (SEEDS, 1))
    a, top = np.full((2, SEEDS, STEPS), LIMIT / 2)
    for seed, begin in enumerate(first):
        for trigger in (begin, begin + 150):
            logs[seed, trigger : trigger + 10] += 1
            a[seed, trigger - 8 : trigger] = 1.1 * LIMIT
            top[seed, trigger - 20 : trigger] = 1.1 * LIMIT
        for place in range(false_alarms):
            top[seed, 10 + 50 * place] = 3 * LIMIT
    squares = np.repeat(10.0 ** logs[:, :, None], 4, axis=2)
    squares[:, 200:] = 1e-12
    v = np.zeros((SEEDS, 4))
    moments = []
    for t in step:
        v = 0.999 * v + 0.001 * squares[:, t]
        moments.append(v / (1 - 0.999 ** (t + 1)))
    over = ("seed", "step")
    return xr.Dataset(
        {
            "loss": (over, (10**logs).astype(np.float32)),
            "curvature_a": (over, a),
            "curvature_b": (over, a),
            "curvature_c": (over, a),
            "lambda_max_adam": (over, top),
            "lambda_max": (over, np.full_like(a, 3.0)),
            "lambda_grad": (over, np.full_like(a, 2.0)),
            "alignment": (over, a / (1.2 * LIMIT)),
            "threshold": (over, np.full_like(a, LIMIT)),
            "squared_gradient": ((*over, "squared_gradient_0"), squares),
            "second_moment": ((*over, "second_moment_0"), np.stack(moments, axis=1)),
        },
        {"seed": np.arange(SEEDS), "step": step},
    )


@pytest.fixture(scope="module")
def scored():
    """The analysis of what was made up."""
    return run.analyze(Config(seeds=SEEDS, shifts=20), {"adam": made_up()})


def claims_of(analysis):
    return {claim.id.removeprefix("spikes-digits/"): claim for claim in analysis.claims}


def test_layers_are_recorded_in_the_order_of_their_names(short):
    assert short["adam"].squared_gradient.sizes["squared_gradient_0"] == len(cnn.LAYERS)
    assert sorted(cnn.LAYERS) == list(cnn.LAYERS)


def test_layers_add_up_to_the_whole_gradient(short):
    whole = short["adam"].squared_gradient.sum("squared_gradient_0")
    np.testing.assert_allclose(whole, short["adam"].grad_norm ** 2, rtol=1e-5)


def test_second_moments_obey_adams_recursion(short):
    squares, corrected = (
        np.moveaxis(short["adam"][name].values.astype(float), 1, 2)
        for name in ("squared_gradient", "second_moment")
    )
    v = decoupling.uncorrected(corrected, 0.999)
    np.testing.assert_allclose(v[..., 0], 0.001 * squares[..., 0], rtol=2e-4)
    growth = v[..., 1:] - 0.999 * v[..., :-1]
    np.testing.assert_allclose(growth, 0.001 * squares[..., 1:], atol=2e-4 * v.max())


def test_the_first_loss_is_that_of_uniform_weights(short):
    # Small weights give outputs near 0, one of ten labels is 1: the mean square is about .1.
    labels = digits(SHORT.images).labels
    assert np.square(labels).mean() == pytest.approx(0.1)
    np.testing.assert_allclose(short["adam"].loss[:, 0], 0.1, atol=0.04)
    assert (short["adam"].loss[:, -1] < short["adam"].loss[:, 0]).all()


def test_a_training_too_short_to_spike_determines_nothing_about_alarms(short):
    claims = claims_of(run.analyze(SHORT, short))
    assert claims["spikes"].measured == 0
    for name in ("precision", "precision-late", "a-recall", "a-chance", "lead", "alignment"):
        assert claims[name].verdict == "undetermined"


def test_made_up_alarms_score_as_they_were_made(scored):
    claims = claims_of(scored)

    assert claims["spikes"].measured == 1
    assert claims["plain-hessian"].measured == 1
    assert claims["a-recall"].measured == claims["lambda-max-recall"].measured == 1
    assert claims["lambda-max-recall"].n == 2 * SEEDS
    assert claims["lead"].measured == 8
    assert claims["lead"].interval == (8, 8)
    # Two alarms of four are false, one of them before the detector starts.
    assert claims["precision"].interval == (0.5, 0.5)
    assert claims["precision-late"].measured == pytest.approx(1 - 2 / 3)
    assert claims["preconditioner-grows"].measured == 1
    assert claims["decay"].measured < 1e-4
    # A, and with it the made-up alignment, has gone back by the trigger itself.
    assert claims["alignment"].measured == pytest.approx(0.5 / 1.2)
    assert claims["a-auc"].measured > 0.1

    table = {(row["signal"], row["alarms from step"]): row for row in scored.tables["alarms"]}
    top = table[SIGNALS["lambda_max_adam"], 0]
    assert (top["alarms"], top["precision"], top["median lead"]) == (4 * SEEDS, 0.5, 20)
    assert top["recall by chance"] < 0.8

    stages = {row["stage"]: row for row in scored.tables["stages"]}
    assert stages["onset"]["spikes"] <= 2 * SEEDS
    layers = scored.tables["layers"]
    assert [row["layer"] for row in layers] == list(cnn.LAYERS)
    for row in layers:
        assert row["seeds"] == SEEDS
        assert row["decay of v per step, median"] == pytest.approx(0.999, abs=1e-6)


def test_figures_are_drawn_for_spikes(scored):
    assert set(scored.figures) == {
        "curvatures",
        "around-trigger",
        "lead-times",
        "second-moments",
        "alignment",
        "stages",
    }
    for figure in scored.figures.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(("recorded", "finite"), [(1, 0), (32, 0), (51, 3)])
def test_runs_that_all_diverge_determine_nothing(recorded, finite):
    runs = made_up().isel(step=slice(recorded))
    analysis = run.analyze(Config(seeds=SEEDS, shifts=2), {"adam": runs.where(runs.step < finite)})
    claims = claims_of(analysis)
    assert claims["spikes"].measured == 0
    for name in ("precision-late", "a-recall", "a-chance", "lead", "preconditioner-grows"):
        assert claims[name].verdict == "undetermined"
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seeds", 0),
        ("images", 0),
        ("images", 1798),
        ("steps", 99),
        ("first_seed", -1),
        ("rise", 0.0),
    ],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


def test_presets_differ_in_size_alone():
    quick, paper = EXPERIMENT.presets["quick"], EXPERIMENT.presets["paper"]
    assert paper.seeds > quick.seeds
    assert paper.optimizer == quick.optimizer
