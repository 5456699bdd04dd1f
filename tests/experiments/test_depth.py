import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.connected import connected_instances
from experiments.completion.depth import run
from experiments.completion.depth.config import EXPERIMENT, Config
from experiments.completion.depth.flow import NAMES
from experiments.completion.depth.outcome import Paths, measure, rise_share
from phenodl.completion import observation_graph

SMALL = Config(seed=1, masks_per_size=1, init_std=0.1, small_std=0.03, steps=1000)


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_instances_are_connected_and_known(x64):
    instances = connected_instances(SMALL.seed, SMALL.masks_per_size)
    assert len(instances.rank) > 10
    assert {observation_graph(mask).count for mask in instances.mask} == {1}
    assert np.all(instances.minimum_rank <= instances.rank)
    norm = np.linalg.svd(instances.target, compute_uv=False).sum(-1)
    assert np.all(instances.least_norm <= norm * (1 + 1e-9))


def test_measure_of_the_ground_truths(x64):
    instances = connected_instances(SMALL.seed, SMALL.masks_per_size)
    count = len(instances.rank)
    loss = np.where(np.arange(count) < 3, 1e-11, 1e-13)
    outcome = measure(
        instances,
        xr.Dataset(
            {"W": (("instance", "W_0", "W_1"), instances.target), "mean_loss": ("instance", loss)}
        ),
    )
    np.testing.assert_array_equal(outcome.rank, instances.rank)
    assert outcome.within_truth.all()
    np.testing.assert_array_equal(outcome.minimal, instances.rank == instances.minimum_rank)
    np.testing.assert_array_equal(outcome.converged, loss < 1e-12)
    assert np.all(outcome.nuclear_excess > -1e-9)


def test_rise_share_of_logistic_growth():
    time = np.tile(np.linspace(0, 20, 2001), (2, 1))
    rate = np.array([[1.0], [2.0]])
    largest = 3 / (1 + np.exp(-rate * (time - 10)))
    values = np.stack([largest, 0.1 * largest], axis=-1)
    values[1, 1800:] = np.nan  # a run that has ended
    share = rise_share(Paths(time, values))
    passage = np.log(9) / rate[:, 0]
    np.testing.assert_allclose(share, 2 * passage / (10 + passage), rtol=1e-4)


def test_trained_products_fit(x64, trained):
    instances = connected_instances(SMALL.seed, SMALL.masks_per_size)
    for name in NAMES.values():
        results = trained[name]
        residual = np.where(instances.mask, results.W.isel(init_std=0) - instances.target, 0)
        mean_loss = 0.5 * (residual**2).sum((1, 2)) / instances.mask.sum((1, 2))
        reported = results.mean_loss.isel(init_std=0).values
        np.testing.assert_allclose(reported, mean_loss, rtol=1e-6, atol=1e-25)
        assert np.median(reported) < 1e-6
        start = results.path.isel(init_std=0).values[:, 0]
        assert np.abs(start).max() < 0.3
    assert "init_std" in trained["two-factors"].dims
    assert trained["four-factors"].sizes["init_std"] == 1


def test_claims_tables_and_figures(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 16
    assert claims["three-always"].expected == "fails"
    instances = connected_instances(SMALL.seed, SMALL.masks_per_size)
    two, three = (measure(instances, trained[NAMES[depth]].isel(init_std=1)) for depth in (2, 3))
    both = two.converged & three.converged
    expected = three.within_truth[both].mean() - two.within_truth[both].mean()
    assert claims["three-against-two"].measured == pytest.approx(expected)
    assert claims["three-against-two"].n == both.sum()
    four, three = (measure(instances, trained[NAMES[depth]].isel(init_std=0)) for depth in (4, 3))
    at_least = np.where(four.converged, four.within_truth, False).mean()
    at_most = np.where(three.converged, three.within_truth, True).mean()
    cautious = claims["four-against-three-cautious"]
    assert cautious.measured == pytest.approx(at_least - at_most)
    assert cautious.n == len(instances.rank)
    assert len(analysis.tables["depths"]) == 5
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("masks_per_size", 0),
        ("init_std", 0.0),
        ("small_std", 0.05),
        ("steps", 0),
        ("tolerance", float("nan")),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
