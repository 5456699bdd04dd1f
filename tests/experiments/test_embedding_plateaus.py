import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr
from recorders import InMemory
from scipy.optimize import least_squares

from experiments.embedding.plateaus import ledger, narrow, rests, run, starts
from experiments.embedding.plateaus.config import EXPERIMENT, Config
from experiments.embedding.plateaus.rests import MISSING, History

SMALL = Config(seed=1012, targets=2, keys=2, units=12, steps=8000, leader_steps=8000)


def output(theta, units, x):
    """A tanh network from one vector, in the order of a flattened pytree."""
    b, w, c, a = np.split(theta, [units, 2 * units, 2 * units + 1])
    return a @ np.tanh(np.outer(w, x) + b[:, None]) + c


def best_fits(base, units):
    """Least squares from several starts, the accepted ones given as what a search records."""
    x, rng = base.inputs[0], np.random.default_rng(0)
    points = np.empty((len(base.targets), 5, 3 * units + 1))
    for row, target in enumerate(base.targets[:, 0]):
        for start in range(5):
            fit = least_squares(
                lambda theta, target=target: output(theta, units, x) - target,
                3 * rng.standard_normal(points.shape[-1]),
                xtol=1e-15,
                ftol=1e-15,
                gtol=1e-15,
            )
            points[row, start] = fit.x
    fitted = np.array([[output(theta, units, x) for theta in row] for row in points])
    loss = ((fitted - base.targets) ** 2).mean(-1)
    dims = ("instance", "seed")
    values = {"point": ((*dims, "point_0"), points), "loss": (dims, loss)}
    return xr.Dataset(values | {"grad_norm": (dims, np.zeros_like(loss))})


class WideAlone(InMemory):
    """Trains the wide networks; narrow critical points are those that SciPy finds."""

    def train(self, name, problem, method, runs, **how):
        if name.startswith("units"):
            self.results[name] = best_fits(narrow.staircases(SMALL, int(name[5])), int(name[5]))
            return self.results[name]
        return super().train(name, problem, method, runs, **how)


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = WideAlone()
        run.train(SMALL, recorder)
        yield recorder.results


def test_starts(x64):
    condensing, leader = (
        jax.tree.map(np.asarray, start(SMALL)) for start in (starts.condensing, starts.leader)
    )
    assert condensing["layer_0"]["weight"].shape == (4, 12, 1)
    np.testing.assert_allclose(np.abs(condensing["layer_1"]["weight"]), 1e-2 / 12)
    assert np.abs(condensing["layer_0"]["weight"]).max() <= 5e-14
    for name, rows in condensing["layer_0"].items():
        ahead = (leader["layer_0"][name] / rows[::2]).reshape(2, 12)
        np.testing.assert_allclose(ahead, np.append(1e9, np.ones(11))[None] * np.ones((2, 1)))
    normal = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(starts.gaussian(SMALL))])
    assert 0.7e-6 <= normal.std() <= 1.3e-6


def test_history_holds_the_loss_and_gradient_of_its_networks(x64, trained):
    base, history = narrow.staircases(SMALL, SMALL.units), rests.read(trained["condensing"])
    assert history.step.tolist() == list(range(0, 8000, 50))
    assert history.loss.shape == (4, 160)
    x = base.inputs[0]
    for row, record in ((0, 3), (3, 100)):
        network = jax.tree.map(lambda leaf, at=record: leaf[at].ravel(), history.of(row))
        inner, outer = network["layer_0"], network["layer_1"]
        hidden = np.tanh(np.outer(inner["weight"], x) + inner["bias"][:, None])
        residual = outer["weight"] @ hidden + outer["bias"] - base.targets[row // 2, 0]
        np.testing.assert_allclose(history.loss[row, record], np.mean(residual**2), rtol=1e-12)
        back = 2 * residual / len(x) * outer["weight"][:, None] * (1 - hidden**2)
        slope = [2 * hidden @ residual / len(x), [2 * residual.mean()], back @ x, back.sum(1)]
        expected = np.linalg.norm(np.concatenate(slope))
        np.testing.assert_allclose(history.grad_norm[row, record], expected, rtol=1e-6)


def test_runs_rest_at_the_best_fits_of_one_unit_and_of_two(x64, trained):
    base = narrow.staircases(SMALL, SMALL.units)
    known = narrow.catalogues(SMALL, trained)
    found = {
        name: rests.rests(rests.read(trained[name]), known, base.inputs)
        for name in ("condensing", "leader")
    }
    best = trained["units1"].loss.values.min(1)
    for row, each in enumerate(found["condensing"]):
        rest = rests.first(each, 1)
        assert rest
        assert abs(rest.place.loss - best[row // 2]) <= 1e-7
    reduced = ledger.reductions(SMALL, found["condensing"])
    assert reduced.run.tolist() == [0, 1, 2, 3]
    assert reduced.grad_norm.max() < 1e-12
    assert reduced.loss_gap.max() <= 1e-10  # from where SciPy stops

    one, two = (rests.first(found["leader"][0], units) for units in (1, 2))
    assert one
    assert two
    assert one.place.index < two.place.index
    assert abs(one.place.loss - best[0]) <= 1e-4
    assert np.abs(two.place.loss - trained["units2"].loss.values[0]).min() <= 1e-5
    assert rests.gaps(found["leader"], 2)[0] <= 1e-5
    np.testing.assert_array_less(
        rests.spreads(rests.read(trained["condensing"]), found["condensing"]), 1e-8
    )


def test_claims_and_figures_of_a_small_run(x64, trained):
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    assert len(claims) == len(analysis.claims) == 7
    assert claims["one-unit-gap"].measured <= 1e-7
    assert claims["one-unit-gap"].n == claims["one-unit-share"].n == 2
    assert claims["one-unit-share"].measured == claims["reduction"].measured == 1
    assert claims["two-units"].measured >= 0.5
    assert claims["two-units-best"].measured <= 1e-4
    assert claims["gaussian"].measured == 0
    assert [row["target"] for row in analysis.tables["targets"]] == [1012, 1013]
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


def test_histories_without_rests_leave_claims_that_fail_or_are_undetermined(x64, trained):
    results = dict(trained)
    for name in run.STARTS:
        results[name] = trained[name].isel(step_50=slice(0, 3))
    analysis = run.analyze(SMALL, results)
    verdicts = {claim.id.partition("/")[2]: claim.verdict for claim in analysis.claims}
    assert verdicts["one-unit-gap"] == verdicts["condensed"] == "fails"
    assert verdicts["two-units-best"] == "fails"
    assert verdicts["reduction"] == "undetermined"


def test_without_a_catalogue_whatever_a_run_is_near_counts_as_far(x64):
    params = {
        "layer_0": {"weight": np.ones((2, 5, 3, 1)), "bias": np.zeros((2, 5, 3))},
        "layer_1": {"weight": np.ones((2, 5, 1, 3)), "bias": np.zeros((2, 5, 1))},
    }
    grad_norm = np.array([[1.0, 1e-2, 1e-3, 1e-4, 1e-6], [1.0, 1e-2, 1e-3, 1e-4, 1e-4]])
    history = History(np.arange(5), np.ones((2, 5)), grad_norm, params)
    found = rests.rests(history, [(), ()], np.ones((1, 4)))
    assert [[(rest.place.index, rest.units) for rest in each] for each in found] == [[(4, 1)], []]
    assert rests.gaps(found, 1).tolist() == [MISSING, MISSING]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("targets", 0),
        ("keys", 0),
        ("units", 2),
        ("steps", 100),
        ("leader_steps", 100),
        ("every", 0),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("output_scale", 0.0),
        ("input_std", float("inf")),
        ("leader_std", 0.0),
        ("gaussian_std", -1.0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
