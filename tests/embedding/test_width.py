import jax
import numpy as np
import pytest

from phenodl.embedding import networks, width
from tests.oracles import numpy_network

POINTS = {  # with and without biases, one and three hidden layers
    "shallow": numpy_network.critical_point((3, 2, 2), n=20, residual=0.5, seed=1),
    "deep": numpy_network.critical_point((2, 2, 2, 2, 2), n=40, residual=0.5, seed=40),
    "unbiased": numpy_network.critical_point((3, 2, 2), n=20, residual=0.5, seed=3, bias=False),
}


def measured(wide, point):
    """The largest change of an output, and the largest entry of the gradient."""
    wide = jax.tree.map(np.asarray, wide)
    outputs = [numpy_network.forward(p, point.inputs)[-1] for p in (wide, point.params)]
    gradient = numpy_network.gradient(wide, point.inputs, point.targets)
    return np.abs(outputs[0] - outputs[1]).max(), np.abs(numpy_network.ravel(gradient)).max()


@pytest.mark.parametrize("name", POINTS)
def test_the_points_are_critical_and_have_a_loss(name):
    change, gradient = measured(POINTS[name].params, POINTS[name])
    assert change == 0
    assert gradient < 1e-14
    np.testing.assert_allclose(numpy_network.loss(*POINTS[name]), 0.25, rtol=1e-12)


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("alpha", [0.3, -2.0, 1.0])
def test_splits_keep_output_and_criticality(x64, name, alpha):
    point = POINTS[name]
    for layer, units in enumerate(networks.widths(point.params)[1:-1]):
        wide = width.split(point.params, layer, units - 1, alpha)
        assert networks.widths(wide)[layer + 1] == units + 1
        change, gradient = measured(wide, point)
        assert change < 1e-14
        assert gradient < 1e-14


@pytest.mark.parametrize("name", POINTS)
def test_null_units_keep_output_and_criticality_at_any_bias(x64, name):
    point = POINTS[name]
    for layer in range(len(point.params) - 1):
        change, gradient = measured(width.null(point.params, layer, bias=0.8), point)
        assert change == 0
        assert gradient < 1e-14


def test_a_null_unit_with_a_bias_needs_one_in_the_next_layer(x64):
    """Without it the errors need not sum to zero, and the unit is a constant that helps."""
    point = POINTS["unbiased"]
    mixed = {name: dict(layer) for name, layer in point.params.items()}
    mixed["layer_0"]["bias"] = np.zeros(2)
    assert measured(width.null(mixed, 0, bias=0.8), point)[1] > 1e-3
    zero = jax.tree.map(np.asarray, width.null(mixed, 0, bias=0.0))
    gradient = numpy_network.gradient(zero, point.inputs, point.targets)
    assert np.abs(gradient["layer_1"]["weight"]).max() < 1e-14


@pytest.mark.parametrize("name", POINTS)
def test_a_silent_unit_keeps_the_output_but_not_criticality(x64, name):
    point = POINTS[name]
    for layer in range(len(point.params) - 1):
        fan_in = networks.widths(point.params)[layer]
        wide = width.silent(point.params, layer, np.linspace(1, 2, fan_in), bias=0.4)
        change, gradient = measured(wide, point)
        assert change == 0
        assert gradient > 1e-4


def test_at_zero_loss_even_a_silent_unit_is_critical(x64):
    point = POINTS["shallow"]
    solved = point._replace(targets=numpy_network.forward(point.params, point.inputs)[-1])
    assert measured(width.silent(point.params, 0, np.ones(3)), solved)[1] < 1e-14


def test_every_embedding_runs_in_float32_and_keeps_the_dtype():
    params = jax.tree.map(lambda array: array.astype(np.float32), POINTS["shallow"].params)
    for wide in (
        width.split(params, 0, 1, 0.3),
        width.null(params, 0, 0.5),
        width.silent(params, 0, np.ones(3, np.float32)),
    ):
        assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype(np.float32)}


def test_bad_layers_and_units_are_refused():
    params = POINTS["shallow"].params
    with pytest.raises(ValueError, match="layer: expected"):
        width.split(params, 1, 0, 0.5)
    with pytest.raises(ValueError, match="unit: expected"):
        width.split(params, 0, 2, 0.5)
    with pytest.raises(ValueError, match="layer: expected"):
        width.null(params, -1)
    with pytest.raises(ValueError, match="params: expected"):
        width.null({"kernel": np.ones((2, 2))}, 0)


def test_entries_of_numpy_arrays_can_be_set():
    params = POINTS["shallow"].params
    changed = width.with_units(params, 0, "bias", 1, 5.0)["layer_0"]["bias"]
    np.testing.assert_array_equal(np.asarray(changed)[1], 5.0)
    assert params["layer_0"]["bias"][1] != 5
