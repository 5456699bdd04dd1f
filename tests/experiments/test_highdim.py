"""The experiment in many dimensions: its networks train, made-up crossings are read as made."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.spikes.highdim import run
from experiments.spikes.highdim.config import DEEP, EXPERIMENT, FREQUENT, Config
from phenodl.data.functions import quadratic_target

SHORT = Config(
    deep=dataclasses.replace(DEEP, seeds=2, width=3, steps=100, products=2),
    frequent=dataclasses.replace(FREQUENT, seeds=3, width=2, steps=120),
    dimension=4,
    points=12,
    shifts=3,
)
SEEDS, STEPS, LIMIT = 8, 400, 100.0


@pytest.fixture(scope="module")
def short():
    import jax

    recorder = InMemory()
    with jax.enable_x64(True):
        run.train(SHORT, recorder)
        return recorder.results


def made_up():
    """Runs that fall to 1e-14 and spike once, λ_max crossing 14 steps ahead and A 2.

    The alignment is .1 until λ_max crosses, .95 from A's crossing on.
    """
    logs = np.tile(-np.arange(STEPS) / 14, (SEEDS, 1))
    a, top, aligned = np.full((3, SEEDS, STEPS), LIMIT / 2)
    aligned[:] = 0.1
    for seed in range(SEEDS):
        trigger = 200 + 5 * seed
        logs[seed, trigger : trigger + 20] = -2.0
        a[seed, trigger - 2 : trigger + 10] = 1.2 * LIMIT
        top[seed, trigger - 14 : trigger + 10] = 1.2 * LIMIT
        aligned[seed, trigger - 2 :] = 0.95
    squares = np.repeat(10.0 ** logs[:, :, None], 2, axis=2)
    over = ("seed", "step")
    return xr.Dataset(
        {
            "loss": (over, 10**logs),
            "curvature_a": (over, a),
            "curvature_b": (over, a),
            "curvature_c": (over, a),
            "lambda_max_adam": (over, top),
            "alignment": (over, aligned),
            "threshold": (over, np.full_like(a, LIMIT)),
            "squared_gradient": ((*over, "squared_gradient_0"), squares),
            "second_moment": ((*over, "second_moment_0"), squares + 1e-3),
        },
        {"seed": np.arange(SEEDS), "step": np.arange(STEPS)},
    )


def claims_of(analysis):
    return {claim.id.removeprefix("spikes-highdim/"): claim for claim in analysis.claims}


def test_every_run_fits_the_same_target_in_double_precision(short):
    for name, part in (("deep", SHORT.deep), ("frequent", SHORT.frequent)):
        runs = short[name]
        assert runs.loss.dtype == np.float64
        assert runs.loss.shape == (part.seeds, part.steps)
        # The best constant leaves the variance of the target; a network of small weights starts
        # near its mean square, and each from weights of its own.
        _, targets = quadratic_target(part.target_seed, SHORT.points, SHORT.dimension)
        first = runs.loss.isel(step=0)
        np.testing.assert_allclose(first, np.mean(targets**2), rtol=0.6)
        assert len(np.unique(first)) == part.seeds
        assert (runs.loss.isel(step=-1) < targets.var()).all()
        np.testing.assert_allclose(runs.threshold, 2 / part.optimizer.learning_rate)
    assert "lambda_max_adam" in short["deep"]
    assert "lambda_max_adam" not in short["frequent"]


def test_trainings_too_short_to_spike_determine_nothing_about_alarms(short):
    analysis = run.analyze(SHORT, short)
    claims = claims_of(analysis)
    assert claims["deep/single"].measured == 0
    for name in ("deep/order", "deep/apart", "deep/aligned", "frequent/lead"):
        assert claims[name].verdict == "undetermined"
    assert analysis.tables["deep-crossings"] == []
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_made_up_crossings_are_read_as_they_were_made():
    runs = made_up()
    config = dataclasses.replace(SHORT, shifts=5)
    analysis = run.analyze(config, {"deep": runs, "frequent": runs.drop_vars("lambda_max_adam")})
    claims = claims_of(analysis)
    assert claims["deep/single"].measured == 1
    assert claims["deep/a-recall"].n == SEEDS
    assert claims["deep/order"].interval == (12, 12)
    assert claims["deep/apart"].measured == 0.1
    assert claims["deep/aligned"].measured == 0.95
    assert claims["frequent/lead"].interval == (2, 2)
    assert claims["frequent/a-precision"].measured == 1
    row = analysis.tables["deep-crossings"][1]
    assert [row[name] for name in ("seed", "λ_max(Ĥ) crosses", "A crosses")] == [1, 191, 203]
    assert row["trigger"] == 205
    # The loss had fallen to 10^(-185/14) within the window of 20 steps, and rises to 10^-2.
    assert row["decades"] == pytest.approx((204 - 19) / 14 - 2)
    assert analysis.figures["deep-alignment"].axes[0].get_legend() is not None
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_low_or_repeated_spikes_are_not_single_deep_ones():
    runs = made_up()
    low = runs.assign(loss=runs.loss**0.5)
    again = runs.copy(deep=True)
    again.loss[:, 330:340] = 1.0
    for changed in (low, again):
        claims = claims_of(run.analyze_deep(SHORT, changed))
        assert claims["deep/single"].measured == 0


@pytest.mark.parametrize(
    ("field", "value"), [("dimension", 0), ("points", 0), ("first_seed", -1), ("rise", 0.0)]
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seeds", 0),
        ("width", 0),
        ("steps", 99),
        ("target_seed", -1),
        ("products", -1),
        ("products", 1),
    ],
)
def test_bad_trainings_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(FREQUENT, **{field: value})


def test_the_deep_runs_need_the_largest_eigenvalue():
    with pytest.raises(ValueError, match=r"^deep\.products must be at least 2"):
        Config(deep=dataclasses.replace(DEEP, products=0))


def test_presets_differ_in_size_alone():
    quick, paper = EXPERIMENT.presets["quick"], EXPERIMENT.presets["paper"]
    for part in ("deep", "frequent"):
        small, large = getattr(quick, part), getattr(paper, part)
        assert large.seeds > small.seeds
        assert dataclasses.replace(large, seeds=small.seeds, products=small.products) == small
