import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory

from experiments.completion.generalization import run
from experiments.completion.generalization.config import EXPERIMENT, Config
from experiments.completion.generalization.model import embedded
from experiments.completion.generalization.outcome import LARGE, SMALL, instances, measure
from phenodl.models import factorization
from phenodl.models.factorization import Factors
from phenodl.optim import flow
from phenodl.protocol import Objective, value_and_grad

TINY = Config(
    seed=1,
    side=6,
    rank=2,
    sample_sizes=(16, 33),
    inner_widths=(6, 1, 2, 3),
    repeats=3,
    steps=500,
)


def trained_factors(problem, factors, data):
    """The factors after 200 steps, without the engine."""
    method = flow.bold_driver(0.05)

    @jax.jit
    def train(factors):
        def loss(params):
            return problem.loss(params, data)

        def body(_, carry):
            params, state = carry
            params, state, _ = method.step(
                Objective(loss, *value_and_grad(loss)(params)), params, state, {}
            )
            return params, state

        return jax.lax.fori_loop(0, 200, body, (factors, method.init(factors, {})))[0]

    return train(factors)


def test_an_embedded_factorization_trains_as_the_narrow_one(x64):
    family = instances(TINY)
    data = {"target": jnp.asarray(family.target[-1]), "mask": jnp.asarray(family.mask[-1])}
    hyper = {"inner_width": jnp.array(3), "init_std": jnp.array(0.1)}
    start = jax.jit(embedded(6).init)(jax.random.key(0), data, hyper)
    assert np.all(start.A[:, 3:] == 0)
    assert np.all(np.abs(start.A[:, :3]) > 0)

    wide = trained_factors(embedded(6), start, data)
    narrow = trained_factors(factorization.problem(3), Factors(start.A[:, :3], start.B[:3]), data)
    np.testing.assert_array_equal(wide.A[:, 3:], 0)
    np.testing.assert_array_equal(wide.B[3:], 0)
    np.testing.assert_allclose(wide.A[:, :3], narrow.A, rtol=0, atol=1e-9)
    np.testing.assert_allclose(wide.B[:3], narrow.B, rtol=0, atol=1e-9)
    assert np.abs(wide.A - start.A).max() > 0.1


def test_starts_of_all_widths_have_products_of_one_size(x64):
    data = {"target": jnp.zeros((40, 40))}
    init = jax.jit(embedded(64).init)
    for width in (1, 4, 64):
        hyper = {"inner_width": jnp.array(width), "init_std": jnp.array(0.1)}
        product = np.asarray(factorization.product(init(jax.random.key(2), data, hyper)))
        assert product.std() == pytest.approx(0.01, rel=0.3)


def stored(config, solutions):
    """A dataset as training leaves it, with the same solution at all widths."""
    widths, starts = len(config.inner_widths), 2
    shape = (len(solutions), widths, starts, config.side, config.side)
    solutions = np.broadcast_to(solutions[:, None, None], shape)
    return xr.Dataset({"W": (("instance", "inner_width", "init_std", "W_0", "W_1"), solutions)})


def test_errors_of_known_solutions():
    family = instances(TINY)
    outcome = measure(TINY, stored(TINY, np.where(family.mask, family.target, 0.0)))
    assert outcome.test.shape == (2, 3, 4, 2)
    np.testing.assert_array_equal(outcome.training, 0)
    np.testing.assert_array_equal(outcome.test, 1)
    np.testing.assert_array_equal(outcome.well_sampled, [False, True])

    scaled = np.where(family.mask, 1.5, 0.75) * family.target
    outcome = measure(TINY, stored(TINY, scaled))
    np.testing.assert_allclose(outcome.training, 0.5)
    np.testing.assert_allclose(outcome.test, 0.25)
    np.testing.assert_allclose(outcome.growth(0, 1, SMALL), 0, atol=1e-12)


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(TINY, recorder)
        yield recorder.results


def test_claims_and_figure_of_a_small_run(trained, tmp_path):
    analysis = run.analyze(TINY, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 7
    # Three instances are too few for verdicts, but they show the phenomenon.
    assert claims["both-fit"].measured == 1
    assert claims["too-narrow"].measured > 0.5
    assert claims["small-start"].measured == 1
    assert claims["large-start-width"].measured > 2
    assert claims["too-few"].measured == 0
    analysis.figures["test-error"].savefig(tmp_path / "test-error.png")

    family = instances(TINY)
    learned = trained["widths"].W.values[-1, 0]  # width 6, small and large start
    hidden = ~family.mask[-1]
    errors = [
        np.linalg.norm((matrix - family.target[-1])[hidden])
        / np.linalg.norm(family.target[-1][hidden])
        for matrix in learned
    ]
    outcome = measure(TINY, trained["widths"])
    np.testing.assert_allclose(outcome.test[-1, -1, 0, [SMALL, LARGE]], errors, rtol=1e-9)
    rows = analysis.tables["test-error"]
    assert len(rows) == 8
    median = np.median(outcome.test[1, :, 0, LARGE])
    assert rows[4]["test error, large start"] == pytest.approx(median)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("side", 2),
        ("rank", 1),
        ("rank", 6),
        ("sample_sizes", ()),
        ("sample_sizes", (16, 36)),
        ("sample_sizes", (16, 20)),
        ("sample_sizes", (30, 35)),
        ("sample_sizes", (16, 16, 33)),
        ("inner_widths", (2, 3, 6)),
        ("inner_widths", (1, 2, 3)),
        ("inner_widths", (1, 3, 6)),
        ("inner_widths", (1, 2, 6)),
        ("inner_widths", (1, 2, 3, 3, 6)),
        ("repeats", 0),
        ("small_std", 0.0),
        ("large_std", 1e-9),
        ("steps", 0),
        ("tolerance", float("nan")),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(TINY, **{field: value})
