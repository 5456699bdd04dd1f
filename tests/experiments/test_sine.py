"""The sine experiment: its records obey Adam's laws, made-up records are scored as made."""

import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.spikes.sine import run
from experiments.spikes.sine.config import EXPERIMENT, Config
from phenodl.spikes import decoupling

SHORT = Config(seeds=2, width=4, points=20, steps=110, products=2, shifts=3)
SEEDS, STEPS, LIMIT, GAP = 5, 800, 200.0, 400


@pytest.fixture(scope="module")
def short():
    recorder = InMemory()
    run.train(SHORT, recorder)
    return recorder.results


def made_up():
    """Runs in which A crosses 9 steps before each of two spikes, λ_max 15 and C 2.

    A crosses once more without a spike.
    """
    logs = np.tile(-np.arange(STEPS) / 100, (SEEDS, 1))
    a, c, top = np.full((3, SEEDS, STEPS), LIMIT / 2)
    for seed in range(SEEDS):
        for trigger in (120 + 5 * seed, 120 + 5 * seed + GAP):
            logs[seed, trigger : trigger + 10] += 1
            for signal, lead in ((a, 9), (c, 2), (top, 15)):
                signal[seed, trigger - lead : trigger] = 1.1 * LIMIT
        a[seed, 300] = 3 * LIMIT
    squares = np.repeat(10.0 ** logs[:, :, None], 2, axis=2)
    squares[:, 200:] = 1e-12
    v, moments = np.zeros((SEEDS, 2)), []
    for t in range(STEPS):
        v = 0.999 * v + 0.001 * squares[:, t]
        moments.append(v / (1 - 0.999 ** (t + 1)))
    over = ("seed", "step")
    return xr.Dataset(
        {
            "loss": (over, (10**logs).astype(np.float32)),
            "curvature_a": (over, a),
            "curvature_b": (over, a),
            "curvature_c": (over, c),
            "lambda_max_adam": (over, top),
            "alignment": (over, a / (4 * LIMIT)),
            "threshold": (over, np.full_like(a, LIMIT)),
            "squared_gradient": ((*over, "squared_gradient_0"), squares),
            "second_moment": ((*over, "second_moment_0"), np.stack(moments, axis=1)),
        },
        {"seed": np.arange(SEEDS), "step": np.arange(STEPS)},
    )


def claims_of(analysis):
    return {claim.id.removeprefix("spikes-sine/"): claim for claim in analysis.claims}


def test_the_network_starts_at_the_mean_square_of_the_target(short):
    # Small weights give outputs of order one half; sin x + sin 4x has a mean square of one.
    np.testing.assert_allclose(short["adam"].loss[:, 0], 1, atol=0.5)
    assert (short["adam"].loss[:, -1] < short["adam"].loss[:, 0]).all()
    np.testing.assert_allclose(short["adam"].threshold, 200, rtol=1e-6)


def test_second_moments_of_both_layers_obey_adams_recursion(short):
    squares, corrected = (
        np.moveaxis(short["adam"][name].values.astype(float), 1, 2)
        for name in ("squared_gradient", "second_moment")
    )
    assert squares.shape[1] == len(run.LAYERS)
    np.testing.assert_allclose(squares.sum(axis=1), short["adam"].grad_norm ** 2, rtol=1e-5)
    v = decoupling.uncorrected(corrected, 0.999)
    growth = v[..., 1:] - 0.999 * v[..., :-1]
    np.testing.assert_allclose(growth, 0.001 * squares[..., 1:], atol=2e-4 * v.max())


def test_no_direction_is_more_curved_than_the_most_curved(short):
    # Once the eigenvector has been found, with one product per step.
    late = short["adam"].isel(step=slice(80, None))
    slack = late.lambda_max_adam_residual + 1e-3 * abs(late.lambda_max_adam)
    for name in ("curvature_b", "curvature_c"):  # quotients of the symmetric operator
        assert (late[name] <= late.lambda_max_adam + slack).all()


def test_a_training_too_short_to_spike_determines_nothing_about_alarms(short):
    claims = claims_of(run.analyze(SHORT, short))
    assert claims["spikes"].measured == 0
    for name in ("a-recall", "a-recall-chance", "a-precision", "c-chance", "lead", "order"):
        assert claims[name].verdict == "undetermined"


def test_made_up_alarms_score_as_they_were_made():
    analysis = run.analyze(Config(seeds=SEEDS, shifts=20), {"adam": made_up()})
    claims = claims_of(analysis)
    assert claims["spikes"].measured == 1
    assert (claims["a-recall"].measured, claims["a-recall"].n) == (1, 2 * SEEDS)
    assert 0.5 < claims["a-recall-chance"].measured < 1
    assert claims["a-precision"].interval == pytest.approx((2 / 3, 2 / 3))
    assert claims["c-precision"].measured == 1
    assert claims["lead"].interval == (9, 9)
    assert claims["order"].interval == (6, 6)
    assert claims["decay"].measured < 1e-4

    stages = {row["stage"]: row for row in analysis.tables["stages"]}
    assert stages["decay of the preconditioner"]["spikes"] <= 2 * SEEDS
    kinds = {row["kind"]: row["spikes"] for row in analysis.tables["kinds"]}
    # Each spike comes back to a loss that goes on falling as before.
    assert kinds["neutral"] == 2 * SEEDS


def test_figures_are_drawn_for_spikes_and_without(short):
    for config, results in (
        (Config(seeds=SEEDS, shifts=2), {"adam": made_up()}),
        (SHORT, short),
    ):
        analysis = run.analyze(config, results)
        assert len(analysis.figures) == 6
        for figure in analysis.figures.values():
            figure.draw_without_rendering()


@pytest.mark.parametrize("finite", [0, 3, 60])
def test_runs_that_all_diverge_determine_nothing(finite):
    runs = made_up()
    analysis = run.analyze(Config(seeds=SEEDS, shifts=2), {"adam": runs.where(runs.step < finite)})
    claims = claims_of(analysis)
    assert claims["spikes"].measured == 0
    assert claims["a-recall"].verdict == claims["lead"].verdict == "undetermined"


@pytest.mark.parametrize(
    ("field", "value"),
    [("seeds", 0), ("width", 0), ("points", 0), ("steps", 99), ("first_seed", -1), ("rise", 0.0)],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


def test_presets_differ_in_size_alone():
    quick, paper = EXPERIMENT.presets["quick"], EXPERIMENT.presets["paper"]
    assert paper.seeds > quick.seeds
    assert (paper.optimizer, paper.steps) == (quick.optimizer, quick.steps)
