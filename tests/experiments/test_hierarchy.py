import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.hierarchy import run
from experiments.completion.hierarchy.config import EXPERIMENT, Config
from experiments.completion.hierarchy.instances import instances
from experiments.completion.hierarchy.outcome import (
    History,
    column_norms,
    distance_to_best_fit,
    escapes,
    of_each_run,
    ranks_agree,
    read,
    saddles,
    sequence_is_exact,
)

SMALL = Config(seed=1, draws=2, stds=(1.0, 1e-30), stds_draws=1, history_steps=3200, every=32)


class HistoryAlone(InMemory):
    """Trains the history; solutions are the ground truths, from std 1 with another hidden entry."""

    def train(self, name, problem, method, runs, **how):
        if name == "history":
            return super().train(name, problem, method, runs, **how)
        target, mask = (np.asarray(runs.data[each]) for each in ("target", "mask"))
        shift = np.where(mask, 0.0, (np.asarray(runs.hyper["init_std"]) == 1)[:, None, None])
        shape = tuple(len(axis) for axis in runs.axes.values())
        variables = {
            "W": (
                (*runs.axes, "W_0", "W_1"),
                (target + shift).reshape(*shape, 4, 4),
            ),
            "mean_loss": (tuple(runs.axes), np.full(shape, 1e-25)),
        }
        self.results[name] = xr.Dataset(variables)
        return self.results[name]


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = HistoryAlone()
        run.train(SMALL, recorder)
        yield recorder.results


def test_instances_have_the_spectrum_and_one_hidden_entry():
    family = instances(Config(seed=2, draws=40))
    values = np.linalg.svd(family.target, compute_uv=False)
    np.testing.assert_allclose(values, np.tile([10, 3, 1, 0], (640, 1)), atol=1e-13)
    assert np.all((~family.mask).sum(0) == 40)
    # Uniform bases: every entry of an orthogonal 4 x 4 matrix has variance 1/4.
    square = (family.target**2).mean(0)
    np.testing.assert_allclose(square, 110 / 16, rtol=0.2)


def test_plateaus_of_a_small_run(x64, trained):
    family = instances(SMALL)
    history = read(trained["history"], family)
    assert history.step.tolist() == list(range(0, 3200, 32))
    residual = np.where(family.mask, history.left[:, 30] @ history.right[:, 30] - family.target, 0)
    expected = 0.5 * (residual**2).sum((1, 2)) / 15
    np.testing.assert_allclose(history.loss[:, 30], expected, rtol=1e-9)
    slope = np.concatenate(
        [
            residual @ history.right[:, 30].swapaxes(1, 2),
            residual.swapaxes(1, 2) @ history.left[:, 30],
        ],
        axis=1,
    )
    np.testing.assert_allclose(
        history.grad_norm[:, 30], np.linalg.norm(slope, axis=(1, 2)), rtol=1e-6, atol=1e-13
    )

    passed = saddles(history)
    assert sequence_is_exact(passed, 32).mean() >= 0.9
    assert ranks_agree(history, passed).all()
    first = passed.of_rank(1)
    assert np.median(distance_to_best_fit(history, first, 1, family)) <= 1e-9
    leaving = escapes(history, first, 1, family)
    assert np.median(leaving.second) <= 1e-6
    assert np.median(np.minimum(leaving.left, leaving.right)) >= 1 - 1e-8

    values = np.linalg.svd(
        np.concatenate([history.left, history.right.swapaxes(2, 3)], axis=2), compute_uv=False
    )
    np.testing.assert_allclose(column_norms(history)[:, 1:, 0], values[:, 1:, 0], rtol=1e-6)


def test_escapes_of_known_directions():
    """One empty direction that is small, along the first singular vectors, and a smaller one."""
    rng = np.random.default_rng(0)
    family = instances(Config(seed=3, draws=1))
    left, right = np.zeros((16, 1, 4, 4)), np.zeros((16, 1, 4, 4))
    u, _, vt = np.linalg.svd(np.where(family.mask, family.target, 0.0))
    left[:, 0, :, 2], right[:, 0, 2] = 1e-20 * u[:, :, 0], 1e-20 * vt[:, 0]
    left[:, 0, :, 1] = 1e-25 * rng.standard_normal((16, 4))
    none = np.zeros((16, 1))
    history = History(np.arange(1), left, right, none, none)
    origin = saddles(history)._replace(
        run=np.arange(16), record=np.zeros(16, int), rank=np.zeros(16, int), loss=none[:, 0]
    )
    leaving = escapes(history, origin, 0, family)
    np.testing.assert_allclose(leaving.left, 1, atol=1e-14)
    np.testing.assert_allclose(leaving.right, 1, atol=1e-14)
    norm = np.linalg.norm(left[:, 0, :, 1], axis=1) / np.sqrt(2) / 1e-20
    np.testing.assert_allclose(leaving.second, norm, rtol=1e-10)


def test_a_run_stands_or_falls_with_all_of_its_saddles():
    run_of = np.array([4, 0, 4, 0, 7])
    met = np.array([True, True, False, True, True])
    assert of_each_run(met, run_of, np.all).tolist() == [True, False, True]
    assert of_each_run(np.array([1.0, 2, 3, 4, 5]), run_of, np.max).tolist() == [4, 3, 5]
    assert of_each_run(np.zeros(0, bool), run_of[:0], np.all).shape == (0,)


def test_claims_and_figures_of_a_small_run(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 10
    assert claims["converged"].measured == claims["small-start-rank"].measured == 1
    assert claims["converged"].n == 32
    assert claims["large-start-converged"].measured == claims["large-start-rank"].measured == 1
    assert claims["rank-agreement"].n == claims["escape-direction"].n == 32
    assert claims["large-start-rank"].n == 16
    assert claims["best-fit-2"].measured <= 1e-6
    assert claims["escape-direction"].measured >= 0.9
    assert [row["rank"] for row in analysis.tables["plateaus"]] == [1, 2]
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_a_history_without_plateaus_leaves_claims_that_fail_or_are_undetermined(x64, trained):
    """Of a start that the flow has no time to leave."""
    results = dict(trained)
    results["history"] = trained["history"].isel(step_32=slice(0, 2))
    analysis = run.analyze(SMALL, results)
    verdicts = {claim.id.partition("/")[2]: claim.verdict for claim in analysis.claims}
    assert verdicts["sequence"] == "fails"
    assert verdicts["rank-agreement"] == verdicts["best-fit-1"] == "undetermined"
    assert len(analysis.figures) == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("draws", 0),
        ("spectrum", (10.0, 3.0)),
        ("spectrum", (3.0, 10.0, 1.0)),
        ("init_std", 0.0),
        ("stds", (1.0,)),
        ("stds_draws", 0),
        ("history_steps", 0),
        ("every", 0),
        ("steps", 0),
        ("stds_steps", 0),
        ("tolerance", -1.0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
