import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory
from scipy.special import gammaln

from experiments.completion.scale import run
from experiments.completion.scale.config import EXPERIMENT, Config
from experiments.completion.scale.outcome import (
    cells,
    connectivity_threshold,
    levels,
    measure,
    sample_size,
)
from phenodl.completion import observation_graph

TINY = Config(
    seed=1,
    sides=(8, 8),
    ranks=(1, 2),
    repeats=(3, 2),
    oversampling=(0.6, 1.0, 2.0),
    degrees=(1, 3),
    steps=250,
)


def stored(solutions):
    """A dataset as training leaves it."""
    loss = np.where(np.arange(len(solutions)) % 2, 1e-9, 1e-11)
    variables = {"W": (("instance", "W_0", "W_1"), solutions), "mean_loss": ("instance", loss)}
    return {"side8": xr.Dataset(variables)}


def test_cells_have_the_masks_of_their_place():
    family = cells(TINY, 8)
    rows = levels(TINY)
    assert [row.name for row in rows] == ["2 components", "degree 1", "degree 3", "uniform"]
    np.testing.assert_array_equal(np.linalg.matrix_rank(family.target), family.rank)
    for mask, rank, place, number in zip(
        family.mask, family.rank, family.oversampling, family.level, strict=True
    ):
        level, graph = rows[number], observation_graph(mask)
        assert mask.sum() == round(TINY.oversampling[place] * (2 * rank * 8 - rank**2))
        if level.degree is not None:
            assert graph.count == level.components
            assert mask.sum(1).min() == level.degree
    # A spanning tree of 8 rows and 8 columns has 15 entries, the dimension of rank one.
    possible = {
        (rank, place, number)
        for rank, place, number in zip(family.rank, family.oversampling, family.level, strict=True)
    }
    assert (1, 0, 1) not in possible
    assert (1, 1, 1) in possible
    assert (2, 2, 0) not in possible  # 56 entries do not fit into two blocks of 16
    assert len(family.rank) == sum({1: 3, 2: 2}[rank] for rank, _, _ in possible)


def test_connectivity_threshold_is_where_one_row_is_expected_to_be_empty():
    def log_choose(n, k):
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    side = 2000
    size, entries = side**2, round(connectivity_threshold(side))
    empty = np.exp(log_choose(size - side, entries) - log_choose(size, entries))
    assert side * empty == pytest.approx(1, rel=0.05)


def test_outcome_of_known_solutions():
    family = cells(TINY, 8)
    outcome = measure(TINY, stored(family.target))
    assert outcome.whole.all()
    assert outcome.blocks.all()
    np.testing.assert_array_equal(outcome.fitted[:4], [True, False, True, False])

    outcome = measure(TINY, stored(np.where(family.blocks, 1.005 * family.target, 0.0)))
    np.testing.assert_array_equal(outcome.whole, outcome.connected)
    assert outcome.blocks.all()
    assert not outcome.connected[outcome.level == 0].any()
    assert outcome.connected[outcome.level == 1].all()
    np.testing.assert_array_equal(outcome.degree[outcome.level == 2], 3)

    outcome = measure(TINY, stored(1.02 * family.target))
    assert not outcome.whole.any()


def test_unconnected_claims_fail_where_a_solution_contradicts_them():
    family = cells(TINY, 8)
    analysis = run.analyze(TINY, stored(family.target))
    measured = {claim.id.partition("/")[2]: claim.measured for claim in analysis.claims}
    assert measured["below-information"] == measured["disconnected"] == 1
    assert measured["sparsest-row"] == 1


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(TINY, recorder)
        yield recorder.results


def test_claims_and_figures_of_a_small_run(trained, tmp_path):
    analysis = run.analyze(TINY, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 7
    assert claims["below-information"].measured == 0
    assert claims["disconnected"].measured == 0

    family, learned = cells(TINY, 8), trained["side8"].W.values
    errors = [
        np.linalg.norm((w - m)[~mask]) / np.linalg.norm(m[~mask])
        for w, m, mask in zip(learned, family.target, family.mask, strict=True)
    ]
    outcome = measure(TINY, trained)
    np.testing.assert_array_equal(outcome.whole, np.array(errors) <= 1e-2)
    assert outcome.whole[family.oversampling == 2].any()

    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    assert set(analysis.figures) == {"phase-diagram", "recovery"}
    rows = analysis.tables["cells"]
    assert sum(row["instances"] for row in rows) == len(family.rank)
    assert rows[0]["observed entries"] == sample_size(0.6, rank=1, side=8) == 9


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("sides", ()),
        ("sides", (3, 8)),
        ("ranks", (1,)),
        ("ranks", (0, 1)),
        ("ranks", (1, 8)),
        ("ranks", (1, 1)),
        ("repeats", (3,)),
        ("repeats", (3, 0)),
        ("oversampling", ()),
        ("oversampling", (1.0, 2.0)),
        ("oversampling", (0.6, 0.6)),
        ("oversampling", (0.6, 4.0)),
        ("components", 1),
        ("components", 3),
        ("degrees", ()),
        ("degrees", (2, 1)),
        ("degrees", (9,)),
        ("init_std", 0.0),
        ("steps", 0),
        ("tolerance", 0.0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(TINY, **{field: value})
