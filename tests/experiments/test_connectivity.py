import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.connectivity import run
from experiments.completion.connectivity.config import EXPERIMENT, Config
from experiments.completion.connectivity.outcome import (
    MET,
    NOT_MET,
    UNDECIDED,
    dynamics_condition,
    instances,
    measure,
    reference,
)
from phenodl import completion
from phenodl.data.matrices import Instances

SMALL = Config(seed=1, masks_per_size=1, sparse_masks=80, init_stds=(1e-2, 1e-3, 1e-16), steps=6000)


def stored(solutions, loss):
    """A dataset over instances and starts, as training leaves it."""
    dimensions = ("instance", "init_std")
    variables = {"W": ((*dimensions, "W_0", "W_1"), solutions), "mean_loss": (dimensions, loss)}
    return xr.Dataset(variables)


def filled_with_zeros(family, known):
    """The fits that vanish between components, minimal in norm for complete bipartite data."""
    return np.where(known.blocks, family.target, 0.0)


def test_measure_of_known_solutions(x64):
    family = instances(SMALL)
    known = reference(family)
    solutions = np.stack([family.target, filled_with_zeros(family, known)], axis=1)
    loss = np.where(np.arange(97)[:, None] < [5, 7], 1e-11, 1e-13)
    outcome = measure(known, stored(solutions, loss))
    np.testing.assert_array_equal(outcome.rank[:, 0], family.rank)
    assert np.all(known.minimum_rank <= family.rank)
    assert np.all(outcome.nuclear_excess >= -1e-9)
    np.testing.assert_array_equal(outcome.converged, loss < 1e-12)
    np.testing.assert_allclose(outcome.largest, np.linalg.norm(solutions, 2, axis=(2, 3)), 1e-12)

    complete = known.connectivity == "complete bipartite"
    assert complete.sum() >= 5
    np.testing.assert_allclose(outcome.nuclear_excess[complete, 1], 0, atol=1e-13)
    np.testing.assert_allclose(outcome.component_excess[:, 1], 0, atol=1e-13)
    assert np.abs(outcome.component_excess[known.disconnected, 0]).min() > 1e-6


def test_a_norm_between_the_bounds_is_not_decided(x64, monkeypatch):
    family = instances(SMALL)
    norm = np.linalg.svd(family.target, compute_uv=False).sum(-1)

    def loose_bounds(target, mask):
        return SimpleNamespace(lower=norm * (1 - 2e-6), upper=norm * (1 - 1e-7))

    monkeypatch.setattr(completion, "minimum_nuclear_norm", loose_bounds)
    known = reference(family)
    outcome = measure(known, stored(family.target[:, None], np.full((97, 1), 1e-13)))
    complete = np.array([completion.observation_graph(mask).complete.all() for mask in family.mask])
    np.testing.assert_array_equal(outcome.norm_decided[:, 0], complete)


def test_the_condition_asks_for_the_best_fit_of_every_rank():
    """Of a fully observed diagonal matrix the best fits are known (Eckart and Young)."""
    target = np.tile(np.diag([3.0, 2.0, 1.0]), (4, 1, 1))
    family = Instances(target, np.ones_like(target, bool), np.full(4, 3))
    best = np.array([2.5, 0.5, 0.0]) / 9
    losses = np.tile(best, (4, 1))
    losses[1, 0] *= 1.01
    losses[2, 1] *= 1.01
    losses[3, 2] = 1e-10
    at_rest = np.ones((4, 3), bool)
    condition = dynamics_condition(family, family.rank, losses, at_rest)
    assert condition.tolist() == [MET, NOT_MET, NOT_MET, NOT_MET]
    assert set(dynamics_condition(family, np.full(4, 2), losses, at_rest)) == {NOT_MET}

    at_rest[1, 0] = at_rest[2, 2] = at_rest[3, 1:] = False
    condition = dynamics_condition(family, family.rank, losses, at_rest)
    assert condition.tolist() == [MET, UNDECIDED, NOT_MET, UNDECIDED]


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_solutions_fit_the_observed_entries(x64, trained):
    family = instances(SMALL)
    flow = trained["flow"]
    residual = (flow.W.values - family.target[:, None]) * family.mask[:, None]
    mean_loss = 0.5 * (residual**2).sum((2, 3)) / family.mask.sum((1, 2))[:, None]
    np.testing.assert_allclose(flow.mean_loss.values, mean_loss, rtol=1e-6, atol=1e-28)
    assert np.mean(mean_loss <= 1e-12) > 0.8


def test_claims_and_figures_of_a_small_run(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims)
    assert claims["connected-rank-always"].expected == "fails"

    family = instances(SMALL)
    known = reference(family)
    chosen = known.of_class("connected") & (trained["flow"].mean_loss.values[:, 2] <= 1e-12)
    learned = trained["flow"].W.values[chosen, 2]
    ranks = [np.linalg.matrix_rank(matrix, rtol=1e-4) for matrix in learned]
    expected = np.mean(np.array(ranks) == known.minimum_rank[chosen])
    assert claims["connected-rank-1e-16"].measured == pytest.approx(expected)
    assert claims["connected-rank-1e-16"].n == chosen.sum()

    assert claims["bipartite-norm"].measured == 1
    assert claims["bipartite-excess"].measured < 1e-12
    assert claims["component-norm"].measured < 1e-10
    assert claims["bipartite-rate"].measured == pytest.approx(2, abs=0.05)
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    classes = [row["observed entries"] for row in analysis.tables["classes"]]
    assert classes == ["connected", "complete bipartite", "other"]
    assert [row["std of the start"] for row in analysis.tables["starts"]] == [1e-2, 1e-3, 1e-16]


def test_runs_that_have_not_converged_leave_claims_undetermined(x64, trained):
    flow = stored(np.ones((97, 3, 4, 4)), np.ones((97, 3)))
    analysis = run.analyze(SMALL, {**trained, "flow": flow})
    verdicts = {claim.id.partition("/")[2]: claim.verdict for claim in analysis.claims}
    assert verdicts.pop("converged") == "fails"
    assert set(verdicts.values()) == {"undetermined"}
    assert len(analysis.figures) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("masks_per_size", 0),
        ("sparse_masks", 10),
        ("init_stds", (0.0,)),
        ("init_stds", (float("nan"),)),
        ("init_stds", ()),
        ("init_stds", (1e-3, 1e-3)),
        ("steps", 0),
        ("tolerance", float("inf")),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
