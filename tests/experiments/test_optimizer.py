import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorders import InMemory

from experiments.completion.connected import connected_instances
from experiments.completion.optimizer import minibatch, run
from experiments.completion.optimizer.config import EXPERIMENT, Config
from experiments.completion.optimizer.outcome import (
    Comparison,
    Solutions,
    compare,
    ratios,
    slopes,
)
from phenodl.models.factorization import Factors

SMALL = Config(
    seed=1,
    masks_per_size=1,
    init_std=0.03,
    step_factors=(0.5, 2.0),
    learning_rates=(0.05, 0.1),
    adam_rates=(0.01, 0.1),
    steps=2000,
)

FIRST = jnp.zeros((), jnp.int32)


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_batches_hold_their_share_of_the_observed_entries(x64):
    mask = np.arange(16).reshape(4, 4) % 3 > 0
    problem = minibatch.problem(0.25)
    data = {"target": np.ones((4, 4)), "mask": mask, **problem.data}
    draw = jax.jit(jax.vmap(lambda key: problem.batch(data, key, FIRST)["mask"]))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(draw(keys))
    frequency = drawn.mean(0)
    np.testing.assert_array_equal(frequency[~mask], 0)
    assert np.abs(frequency[mask] - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 4000)
    block = {name: np.stack([leaf] * 3, -1) for name, leaf in data.items() if leaf.ndim}
    of_block = jax.jit(problem.batch)({**block, **problem.data}, keys[:3], FIRST)
    np.testing.assert_array_equal(np.moveaxis(of_block["mask"], -1, 0), drawn[:3])
    np.testing.assert_array_equal(of_block["observed"], block["mask"])


def test_the_gradient_of_batches_is_right_on_average(x64):
    rng = np.random.default_rng(0)
    mask, target = rng.random((4, 4)) < 0.7, rng.standard_normal((4, 4))
    factors = Factors(*(jnp.asarray(rng.standard_normal((4, 4))) for _ in range(2)))
    problem = minibatch.problem(0.5)
    data = {"target": jnp.asarray(target), "mask": jnp.asarray(mask), **problem.data}

    @jax.jit
    @jax.vmap
    def gradient(key):
        batch = problem.batch(data, key, FIRST)
        return jax.grad(problem.loss)(factors, batch).A

    drawn = np.asarray(gradient(jax.random.split(jax.random.key(1), 4000)))
    residual = mask * (np.asarray(factors.A) @ np.asarray(factors.B) - target)
    expected = residual @ np.asarray(factors.B).T
    error = drawn.std(0) / np.sqrt(len(drawn))
    assert np.all(np.abs(drawn.mean(0) - expected) < 5 * error + 1e-12)


def test_comparison_of_known_solutions():
    flow = known(np.ones((3, 1, 2, 2)), converged=[[True], [True], [False]], minimal=[[True]] * 3)
    settings = np.array([0.1, 1.0])
    shift = np.array([0.01, 0.1])[:, None, None]
    found = known(
        np.ones((3, 2, 2, 2)) * (1 + shift),
        converged=np.ones((3, 2), bool),
        minimal=[[True, False]] * 3,
        settings=settings,
    )
    compared = compare(found, flow)
    np.testing.assert_array_equal(compared.counted.sum(0), [2, 2])
    np.testing.assert_allclose(compared.distance[:2], [[0.01, 0.1]] * 2)
    assert np.isnan(compared.distance[2]).all()
    np.testing.assert_array_equal(compared.rank_gain, [[0, -1]] * 3)
    np.testing.assert_allclose(slopes(compared), [1, 1])
    farther = compared._replace(distance=3 * compared.distance)
    np.testing.assert_allclose(ratios(farther, compared), [3, 3])


def known(learned, converged, minimal, settings=(1.0,)):
    norm = np.linalg.svd(learned, compute_uv=False).sum(-1)
    converged, minimal = np.asarray(converged), np.asarray(minimal)
    return Solutions(np.asarray(settings), learned, converged, minimal, norm - 1)


def test_instances_that_do_not_move_are_left_out():
    distance = np.array([[1e-9, 2e-9], [1e-3, 1e-2], [np.nan, 1.0]])
    counted = np.isfinite(distance)
    gain = np.zeros((3, 2), int)
    compared = Comparison(np.array([1.0, 10.0]), counted, distance, gain, distance)
    np.testing.assert_allclose(slopes(compared), [1])


def test_solutions_fit_the_observed_entries(x64, trained):
    instances = connected_instances(SMALL.seed, SMALL.masks_per_size)
    for results in trained.values():
        learned = np.moveaxis(results.W.values.reshape(len(instances.rank), -1, 4, 4), 1, 0)
        residual = np.where(instances.mask, learned - instances.target, 0)
        mean_loss = 0.5 * (residual**2).sum((2, 3)) / instances.mask.sum((1, 2))
        reported = results.mean_loss.values.reshape(len(instances.rank), -1).T
        np.testing.assert_allclose(reported, mean_loss, rtol=1e-6, atol=1e-25)
        assert np.median(reported) < 1e-10


def test_claims_tables_and_figures(x64, trained, tmp_path):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 15
    flow, adam = trained["flow"].W.values, trained["adam"].W.values[:, 0]
    distance = np.linalg.norm(adam - flow, axis=(1, 2)) / np.linalg.norm(flow, axis=(1, 2))
    fitted = (trained["flow"].mean_loss.values <= 1e-12) & (
        trained["adam"].mean_loss.values[:, 0] <= 1e-12
    )
    assert claims["adam-far"].measured == pytest.approx(np.median(distance[fitted]))
    assert claims["adam-far"].n == fitted.sum()
    adam_fits = trained["adam"].mean_loss.values.max(1) <= 1e-12
    assert claims["converged-adam"].measured == (adam_fits & fitted).mean()
    descent = claims["descent-largest"].measured
    assert descent < claims["adam-far"].measured
    assert len(analysis.tables["optimizers"]) == 10
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("masks_per_size", 0),
        ("init_std", 0.0),
        ("step_factors", (1.0,)),
        ("learning_rates", (0.1, 0.05)),
        ("adam_rates", (0.1, float("inf"))),
        ("momentum", 1.0),
        ("batch_share", 0.0),
        ("steps", 0),
        ("tolerance", 0.0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
