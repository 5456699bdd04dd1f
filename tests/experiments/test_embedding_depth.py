import dataclasses

import jax
import numpy as np
import pytest
from recorders import InMemory

from experiments.embedding.depth import bases, deep, lifts, run, units
from experiments.embedding.depth.config import EXPERIMENT, Config
from phenodl.data import tables

SMALL = Config(
    seed=1001,
    subsets=5,
    starts=4,
    steps=80,
    orders=5,
    units=200,
    deep_seeds=5,
    deep_steps=20,
    eps=(1e-3, 3e-3, 1e-2),
)


def elu(z):
    return np.where(z > 0, z, np.expm1(z))


@pytest.fixture(scope="module")
def trained():
    with jax.enable_x64(True):
        recorder = InMemory()
        run.train(SMALL, recorder)
        yield recorder.results


def test_instances_are_the_same_flowers_for_every_activation(x64):
    family = bases.instances(SMALL)
    assert family.inputs.shape == (15, 3, SMALL.flowers)
    np.testing.assert_array_equal(family.inputs[:5], family.inputs[10:])
    flowers = {tuple(row) for row in np.hstack(tables.iris())}
    for inputs, targets in zip(family.inputs, family.targets, strict=True):
        chosen = {tuple(row) for row in np.concatenate([inputs, targets]).T}
        assert chosen <= flowers


def test_loss_has_the_activation_that_an_instance_says(x64):
    random = np.random.default_rng(0)
    params = {
        "layer_0": {"weight": random.normal(size=(2, 3)), "bias": random.normal(size=2)},
        "layer_1": {"weight": random.normal(size=(1, 2)), "bias": random.normal(size=1)},
    }
    family = bases.instances(SMALL)
    inputs, targets = family.inputs[0], family.targets[0]
    z = params["layer_0"]["weight"] @ inputs + params["layer_0"]["bias"][:, None]
    for kind, hidden in enumerate((elu(z), np.where(z > 0, z, 0.01 * z), np.tanh(z))):
        outputs = params["layer_1"]["weight"] @ hidden + params["layer_1"]["bias"][:, None]
        found = bases.loss(params, {"inputs": inputs, "targets": targets, "kind": np.int64(kind)})
        assert float(found) == pytest.approx(np.mean((outputs - targets) ** 2), rel=1e-12)


def test_a_folded_network_computes_what_the_normalised_one_does(x64):
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf[0], deep._starts(SMALL))
    params["scales"] = [random.uniform(0.5, 2, scale.shape) for scale in params["scales"]]
    inputs = tables.iris().inputs.T
    outputs, plain = jax.jit(deep.forward)(params, inputs, 1.0)
    signal = expected = inputs
    for number, scale in enumerate(params["scales"]):
        layer = params["network"][f"layer_{number}"]
        z = layer["weight"] @ expected
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
        expected = np.tanh(scale[:, None] * z + layer["bias"][:, None])
        signal = np.tanh(
            plain[f"layer_{number}"]["weight"] @ signal + plain[f"layer_{number}"]["bias"][:, None]
        )
    np.testing.assert_allclose(signal, expected, atol=1e-12)
    last = params["network"][f"layer_{deep.HIDDEN}"]
    np.testing.assert_allclose(outputs, last["weight"] @ expected + last["bias"][:, None])


def test_normalised_units_have_the_moments_they_should():
    z = np.random.default_rng(0).normal(3, 2, (8, 50))
    over_data = units.normalise(z, "batch")
    np.testing.assert_allclose(over_data.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(over_data.std(1), 1)
    over_units = units.normalise(z, "layer").reshape(2, units.LAYER, 50)
    np.testing.assert_allclose(over_units.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(over_units.std(1), 1)


def test_shares_fall_along_nested_data_and_not_with_size_under_normalisation():
    found = units.measure(SMALL)
    for interval in units.INTERVALS:
        assert np.all(np.diff(found.by_count["none", interval], axis=1) <= 0)
    assert np.ptp(found.by_size["batch", "[0, ∞)"], axis=1).max() <= 2 / SMALL.units
    assert found.bare["batch", "[0, ∞)"] == found.bare["layer", "[0, ∞)"] == 0


def test_claims_and_figures_of_a_small_run(x64, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(lifts, "PLACES", (1,))  # each further lift is compiled for seconds
    analysis = run.analyze(SMALL, trained)
    claims = {claim.id.removeprefix(f"{EXPERIMENT.name}/"): claim for claim in analysis.claims}
    for name in ("output", "gradient", "inertia"):
        assert claims[name].verdict == "holds"
        assert claims[name].n >= 3
    assert claims["tanh-output"].measured <= 0.05
    assert claims["tanh-gradient"].measured <= 0.05
    assert claims["normalised"].measured == 0
    for row in analysis.tables["lifts"]:
        assert row["inertia as predicted"] == 1
    for name, figure in analysis.figures.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_a_network_of_which_every_layer_is_pruned_is_no_better_than_a_linear_fit(x64, trained):
    found = deep.measure(dataclasses.replace(SMALL, tolerance=1e3), trained)
    assert (found.removed == deep.HIDDEN).all()
    inputs, targets = tables.iris()
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    residual = targets - design @ np.linalg.lstsq(design, targets, rcond=None)[0]
    assert (found.pruned_loss >= np.mean(residual**2)).all()
    assert (found.pruned_loss > found.loss).any()


def test_points_are_critical_and_clear_of_kinks(x64, trained):
    family, found = bases.instances(SMALL), bases.found(SMALL, trained)
    points = lifts.smooth_points(SMALL, family, found)
    assert len(points.subset) > 0
    weight, bias = points.params["layer_0"]["weight"], points.params["layer_0"]["bias"]
    z = weight @ points.data["inputs"] + bias[..., None]
    assert np.abs(z).min() >= SMALL.kink_distance
    negative = np.where(points.data["kind"][:, None, None] == 0, elu(z), 0.01 * z)
    hidden = np.where(z > 0, z, negative)
    outputs = points.params["layer_1"]["weight"] @ hidden
    error = outputs + points.params["layer_1"]["bias"][..., None] - points.data["targets"]
    gradient = 2 * (error * hidden).mean(2)  # by the outgoing weights
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("subsets", 0),
        ("flowers", 151),
        ("descent_steps", ()),
        ("kink_distance", 0.0),
        ("eps", (1e-3, 1e-2)),
        ("orders", 4),
        ("tolerance", 0.0),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(SMALL, **{field: value})
