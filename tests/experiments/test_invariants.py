import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.invariants import flow, run
from experiments.completion.invariants.config import EXPERIMENT, Config
from experiments.completion.invariants.outcome import by_mask, conserved, departure, orders
from experiments.completion.invariants.starts import (
    BASES,
    THIN,
    of_kind,
    on_every_mask,
    on_manifolds,
)
from phenodl.models.factorization import Factors

SMALL = Config(seed=5, masks=4, placed=3, long_placed=2, long_steps=3000)


def augmented(starts):
    return np.concatenate([starts.start.A, np.swapaxes(starts.start.B, 1, 2)], axis=1)


def test_starts_have_the_rank_they_claim(x64):
    starts = on_every_mask(SMALL)
    assert len(starts.rank) == 4 * 6 * 3
    np.testing.assert_array_equal(np.linalg.matrix_rank(augmented(starts), rtol=1e-10), starts.rank)
    for some, runs in ((starts, 18), (of_kind(starts, THIN), 3)):
        number = by_mask((some.mask.reshape(-1, 16) * 2 ** np.arange(16)).sum(1), SMALL.masks)
        assert number.shape == (4, runs)
        np.testing.assert_array_equal(number, np.repeat(number[:, :1], runs, axis=1))
    thin = starts.kind == THIN
    assert np.all(np.linalg.matrix_rank(starts.start.A[thin]) == 1)
    logistic = starts.loss == list(flow.ENTRY_LOSSES).index("logistic")
    assert set(np.unique(starts.target[logistic])) == {-1.0, 1.0}


def test_bases_hold_the_same_product(x64):
    starts = on_manifolds(0, 3, 1e-30, (1, 2), BASES)
    product = (starts.start.A @ starts.start.B).reshape(2, 3, 3, 4, 4)
    np.testing.assert_allclose(product[:, 0], product[:, 1], atol=1e-74)
    np.testing.assert_array_equal(product[:, 1], product[:, 2])
    np.testing.assert_array_equal(starts.gauged, starts.kind == BASES[2])
    aligned = starts.kind == BASES[0]
    empty = np.arange(4) >= starts.rank[aligned][:, None]
    assert np.all(augmented(starts)[aligned].swapaxes(1, 2)[empty] == 0)


def test_each_run_has_the_loss_of_its_choice(x64):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 4, 4, 3))
    target, mask = np.sign(rng.standard_normal((4, 4, 3))), rng.random((4, 4, 3)) < 0.5
    data = {"target": target, "mask": mask, "loss_weights": np.eye(3)}
    losses = flow.problem().loss(Factors(jnp.asarray(a), jnp.asarray(b)), data)
    w = np.einsum("ikr,kjr->ijr", a, b)
    gap = np.abs(w - target)
    entries = (
        gap**2 / 2,
        np.where(gap < 1, gap**2 / 2, gap - 0.5),
        np.log1p(np.exp(-w * target)),
    )
    expected = [(mask * each).sum((0, 1))[run] for run, each in enumerate(entries)]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def looks(values):
    """A dataset of singular values, (runs, looks, 4)."""
    variables = {"singular_values": (("instance", "step_50", "value"), values)}
    return xr.Dataset(variables, {"step_50": 50 * np.arange(values.shape[1])})


def test_conserved_and_departures_of_known_spectra(x64):
    starts = on_manifolds(0, 2, 0.1, (1,), BASES)
    values = np.zeros((6, 3, 4))
    values[:, :, 0] = 2.0
    values[2:4, :, 1] = [[1e-16, 1e-6, 1.0], [1e-16, 1e-15, 1e-14]]
    values[4:, :, 1] = [[1e-40, 1e-13, 1.0], [1e-40, 1e-13, 1.0]]
    assert conserved(starts, looks(values)).tolist() == [True, True, False, True, False, False]
    found = departure(starts, looks(values), rank=1)
    assert found.lost.tolist() == [True, False]
    assert found.kept_by_gauge.tolist() == [True]
    values[4, 1, 1] = 1e-11
    assert departure(starts, looks(values), rank=1).kept_by_gauge.tolist() == [False]
    np.testing.assert_allclose(
        orders(3 * np.array([[1, 1 / 16, 1 / 256], [1, 1 / 8, 1 / 64]])), [4, 3]
    )


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_recorded_values_are_those_of_the_last_factors(x64, trained):
    # The last look is 49 steps before the end, when most runs of the squared loss stand still.
    last = trained["masks"]
    rows = np.concatenate([last.A.values, last.B.values.swapaxes(1, 2)], axis=1)
    starts = on_every_mask(SMALL)
    still = (starts.loss == 0) & (last.mean_loss.values < 1e-24)
    assert still.sum() > 4
    np.testing.assert_allclose(
        trained["masks"].singular_values.values[still, -1],
        np.linalg.svd(rows[still], compute_uv=False),
        rtol=1e-6,
        atol=1e-15,
    )
    change = np.abs(imbalances(rows) - imbalances(augmented(starts))).max((1, 2))
    size = (rows**2).sum((1, 2))
    assert np.all(change <= last.drift.values * size * (1 + 1e-6) + 1e-14)


def imbalances(rows):
    a, b = rows[:, :4], rows[:, 4:]
    return a.swapaxes(1, 2) @ a - b.swapaxes(1, 2) @ b


def test_claims_and_figures_of_a_small_run(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert claims["rank"].measured == 1
    assert claims["rank"].n == claims["rank-of-one-factor"].n == claims["balance"].n == 4
    assert claims["rank-of-one-factor"].measured == 1
    assert claims["aligned"].measured == 0
    assert claims["rotated"].measured >= 2 / 3
    assert claims["balance"].measured == pytest.approx(4, abs=0.3)
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    assert len(analysis.tables["conserved"]) == 18


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("masks", 0),
        ("placed", 0),
        ("rotated_std", 0.0),
        ("steps", 999),
        ("long_placed", 0),
        ("long_steps", 0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
