import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.connectivity import run
from experiments.completion.connectivity.config import EXPERIMENT, Config
from experiments.completion.connectivity.outcome import (
    bipartite,
    excess_by_std,
    instances,
    measure,
)
from phenodl import completion
from phenodl.completion import observation_graph
from phenodl.results import final

SMALL = Config(seed=1, masks_per_size=1, sparse_masks=80, steps=3000, tolerance=1e-20)


def stored(solutions, loss):
    """A dataset of one chunk, as training leaves it."""
    axes = ("instance", "init_std")[: np.ndim(loss)]
    variables = {
        "W": ((*axes, "step_chunk", "W_0", "W_1"), np.expand_dims(solutions, -3)),
        "mean_loss": ((*axes, "step_chunk"), np.expand_dims(loss, -1)),
    }
    return xr.Dataset(variables, {"step_chunk": [9]})


def filled_with_zeros(family):
    """The fits that vanish between components, minimal in norm for complete bipartite data."""
    blocks = np.stack([observation_graph(mask).blocks for mask in family.mask])
    return np.where(blocks, family.target, 0.0)


def test_measure_of_known_solutions(x64):
    family = instances(SMALL)
    outcome = measure(family, stored(family.target, np.full(97, 1e-13)))
    np.testing.assert_array_equal(outcome.rank, family.rank)
    assert outcome.converged.all()
    assert np.all(outcome.minimum_rank <= outcome.rank)
    assert np.all(outcome.nuclear_excess >= -1e-9)

    loss = np.where(np.arange(97) < 5, 1e-11, 1e-13)
    outcome = measure(family, stored(filled_with_zeros(family), loss))
    chosen = bipartite(family)
    assert chosen.sum() >= 5
    np.testing.assert_allclose(outcome.nuclear_excess[chosen], 0, atol=1e-13)
    np.testing.assert_allclose(outcome.component_excess, 0, atol=1e-13)
    np.testing.assert_array_equal(outcome.converged, loss < 1e-12)
    assert not outcome.of_class("connected")[:5].any()


def test_a_norm_between_the_bounds_is_not_decided(x64, monkeypatch):
    family = instances(SMALL)
    learned = stored(family.target, np.full(97, 1e-13))
    norm = np.linalg.svd(family.target, compute_uv=False).sum(-1)

    def loose_bounds(target, mask):
        return completion.MinimumNuclearNorm(norm * (1 - 2e-6), norm * (1 - 1e-7))

    monkeypatch.setattr(completion, "minimum_nuclear_norm", loose_bounds)
    outcome = measure(family, learned)
    complete = np.array([observation_graph(mask).complete.all() for mask in family.mask])
    np.testing.assert_array_equal(outcome.norm_decided, complete)


def test_excess_of_known_solutions(x64):
    family = instances(SMALL)
    chosen = bipartite(family)
    minimal = filled_with_zeros(family)[chosen]
    scale = 1 + np.array([1e-3, 1e-5])
    solutions = scale[:, None, None] * minimal[:, None]
    loss = np.full(solutions.shape[:2], 1e-20)
    loss[0, 1] = 1e-8
    excess = excess_by_std(family, stored(solutions, loss))
    assert len(excess) == chosen.sum() - 1
    np.testing.assert_allclose(excess, np.tile([1e-3, 1e-5], (len(excess), 1)), rtol=1e-8)


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_solutions_fit_the_observed_entries(x64, trained):
    family = instances(SMALL)
    small_start = trained["small-start"]
    residual = (final(small_start.W).values - family.target) * family.mask
    mean_loss = 0.5 * (residual**2).sum((1, 2)) / family.mask.sum((1, 2))
    np.testing.assert_allclose(final(small_start.mean_loss).values, mean_loss, rtol=1e-6)
    assert np.mean(mean_loss <= 1e-12) > 0.8


def test_claims_and_figures_of_a_small_run(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 9
    assert claims["connected-rank-always"].expected == "fails"

    family = instances(SMALL)
    outcome = measure(family, trained["small-start"])
    connected = outcome.of_class("connected")
    learned = final(trained["small-start"].W).values[connected]
    ranks = [np.linalg.matrix_rank(matrix, rtol=1e-4) for matrix in learned]
    expected = np.mean(np.array(ranks) == outcome.minimum_rank[connected])
    assert claims["connected-rank"].measured == pytest.approx(expected)
    assert claims["connected-rank"].n == connected.sum()

    assert claims["bipartite-norm"].measured == 1
    assert claims["component-norm"].measured == 1
    assert claims["bipartite-rate"].measured == pytest.approx(2, abs=0.05)
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    assert [row["observed entries"] for row in analysis.tables["classes"]] == [
        "connected",
        "complete bipartite",
        "other",
    ]


def test_runs_that_have_not_converged_leave_claims_undetermined(x64):
    family = instances(SMALL)
    count = bipartite(family).sum()
    rate = stored(np.ones((count, 3, 4, 4)), np.ones((count, 3)))
    results = {"small-start": stored(family.target, np.ones(97)), "rate": rate}
    analysis = run.analyze(SMALL, results)
    verdicts = {claim.id.partition("/")[2]: claim.verdict for claim in analysis.claims}
    assert verdicts.pop("converged") == "fails"
    assert verdicts.pop("component-norm") != "holds"
    assert set(verdicts.values()) == {"undetermined"}
    assert len(analysis.figures) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("masks_per_size", 0),
        ("sparse_masks", 10),
        ("init_std", 0.0),
        ("init_std", float("nan")),
        ("rate_stds", ()),
        ("rate_stds", (1e-3, 1e-3)),
        ("steps", 0),
        ("tolerance", float("inf")),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
