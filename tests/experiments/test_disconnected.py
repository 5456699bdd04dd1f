import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.disconnected import run
from experiments.completion.disconnected.config import EXPERIMENT, Config
from experiments.completion.disconnected.instances import instances
from experiments.completion.disconnected.outcome import measure, traversal, uniformity
from phenodl.models.factorization import Factors

SMALL = Config(seed=3, truths=1, starts=4, paths=1)


def balanced(data, x, y):
    """The factors of the derivation, component by component, for latent directions x and y."""
    a, b = np.zeros((2, len(data.sign), 3, 3))
    for number, (row, column) in enumerate(data.single):
        block, alone = np.sqrt(data.strength[number])
        a[number] = block * np.outer(data.left[number], x[number])
        b[number] = block * np.outer(x[number], data.right[number])
        a[number, row] += alone * y[number]
        b[number, :, column] += alone * data.sign[number] * y[number]
    return a, b


def test_nine_masks_and_ground_truths_of_rank_one():
    data = instances(seed=0, truths=2)
    assert len({mask.tobytes() for mask in data.mask}) == 9
    np.testing.assert_array_equal(data.mask.sum((1, 2)), 5)
    assert np.all(np.linalg.matrix_rank(data.target) == 1)
    for target, mask, strength in zip(data.target, data.mask, data.strength, strict=True):
        values = np.linalg.svd(np.where(mask, target, 0), compute_uv=False)
        np.testing.assert_allclose(values[:2], np.sort(strength)[::-1])
        assert values[0] <= 20 * values[1]
    for (first, second), mask, single in zip(data.pair, data.mask, data.single, strict=True):
        assert not mask[tuple(first)]
        assert not mask[tuple(second)]
        assert first[0] == single[0]
        assert second[1] == single[1]


def test_balanced_fits_lie_on_the_line(x64):
    data = instances(seed=1, truths=3)
    x, y = np.random.default_rng(0).standard_normal((2, 27, 3))
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
    cosine = (x * y).sum(1)
    a, b = balanced(data, x, y)
    np.testing.assert_allclose(np.where(data.mask, a @ b - data.target, 0), 0, atol=1e-13)
    expected = cosine[:, None, None] * data.line
    np.testing.assert_allclose(np.where(data.mask, 0, a @ b), expected, atol=1e-13)

    start = Factors(jnp.asarray(a[None]), jnp.asarray(b[None]))
    one_step = {
        "A": (("run", "i", "k"), a),
        "B": (("run", "k", "j"), b),
        "mean_loss": ("run", np.full(27, 1e-20)),
    }
    found = measure(data, start, xr.Dataset(one_step))
    assert found.converged.all()
    assert np.all(found.rank == 2)
    np.testing.assert_allclose(found.position[0], cosine, atol=1e-12)
    np.testing.assert_allclose(found.predicted[0], cosine, atol=1e-12)
    np.testing.assert_allclose(found.off_line, 0, atol=1e-12)
    np.testing.assert_allclose(found.norm_excess, 0, atol=1e-12)


def test_the_laws_of_directions():
    x, y = np.random.default_rng(0).standard_normal((2, 4000, 3))
    for width, other in ((3, 2), (2, 3)):
        u, v = x[:, :width], y[:, :width]
        cosine = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
        assert uniformity(cosine, width) > 0.01
        assert uniformity(cosine, other) < 1e-10


def test_traversal_of_a_known_way(x64):
    data = instances(seed=1, truths=1)
    one = jax.tree.map(lambda leaf: leaf[4:5], data)
    a, b = balanced(one, np.eye(3)[:1], np.eye(3)[1:2])
    row, column = one.single[0]
    only_block = a.copy(), b.copy()
    only_block[0][0, row], only_block[1][0, :, column] = 0, 0
    zeros = np.zeros_like(a)
    looks = [(zeros, zeros), only_block, (a, b), (zeros * np.nan, zeros * np.nan)]
    recorded = {
        "A": (("run", "step_2", "i", "k"), np.stack([a for a, _ in looks], 1)),
        "B": (("run", "step_2", "k", "j"), np.stack([b for _, b in looks], 1)),
        "mean_loss": (("run", "step_2"), [[1.0, 0.5, 0.0, np.nan]]),
    }
    ways = traversal(one, xr.Dataset(recorded, {"step_2": [0, 2, 4, 6]}))
    far = np.sqrt(2 * one.strength[0])
    block = 0 if far[0] > far[1] else 1
    np.testing.assert_allclose(ways.component[0, 1:3, block, 0], far[0], rtol=1e-12)
    np.testing.assert_allclose(ways.component[0, :3, 1 - block, 0], [0, 0, far[1]], atol=1e-12)
    np.testing.assert_allclose(ways.component[0, :3, :, 1], 0, atol=1e-12)
    np.testing.assert_allclose(ways.whole[0, :3, 1], [0, 0, far.min()], atol=1e-12)
    assert np.isnan(ways.component[0, 3]).all()
    assert ways.stronger_first[0] == (block == 0)


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_claims_and_figures_of_a_small_run(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    for name in ("converged", "rank-two", "line", "norm", "start-decides", "traversal"):
        assert claims[name].measured == 1
    for name in ("converged", "rank-two", "line", "norm", "start-decides", "flow-is-not-greedy"):
        assert claims[name].n == 9  # ground truths, however many starts
    assert claims["uniform"].n == 36
    assert claims["greedy"].measured == 0
    assert claims["uniform"].measured > 1e-4

    last = trained["three-directions"]
    learned = (last.A.values @ last.B.values).reshape(4, 9, 3, 3)
    data = instances(SMALL.seed, SMALL.truths)
    minimal = np.where(data.mask, data.target, 0)  # zero between the components
    size = np.linalg.norm(minimal, axis=(1, 2))
    change = np.linalg.norm(learned - minimal, axis=(2, 3)) / size
    measured = claims["flow-is-not-greedy"].measured
    assert measured == pytest.approx(np.median(change), abs=1e-6)
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")
    rows = {row["latent directions"]: row for row in analysis.tables["settings"][:2]}
    assert rows[2]["rank 3"] == rows[3]["rank 3"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("truths", 0),
        ("starts", 0),
        ("init_std", 1e-3),
        ("larger_std", 1e-9),
        ("steps", 0),
        ("paths", 2),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
