import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import networks
from tests.oracles import numpy_network

POINT = numpy_network.critical_point((2, 3, 4, 2), n=40, residual=0.5, seed=0)
PARAMS = POINT.params


def test_layers_and_network_are_inverse_to_each_other():
    assert networks.network(networks.layers(PARAMS)) == PARAMS
    assert networks.widths(PARAMS) == (2, 3, 4, 2)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_signals_are_those_of_a_forward_pass_in_numpy(x64, layer):
    signals = numpy_network.forward(PARAMS, POINT.inputs)
    found = jax.jit(
        lambda x: (
            networks.layer_inputs(PARAMS, layer, x, jnp.tanh),
            networks.preactivations(PARAMS, layer, x, jnp.tanh),
        )
    )(POINT.inputs)
    expected = signals[layer + 1] if layer == 2 else np.arctanh(signals[layer + 1])
    np.testing.assert_allclose(found[0], signals[layer], rtol=0, atol=1e-14)
    np.testing.assert_allclose(found[1], expected, rtol=1e-9)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_errors_are_the_derivatives_by_a_bias_of_each_point(x64, layer):
    """The gradient of a layer's weight is its errors times its inputs, summed over the data."""
    targets = POINT.targets + 1  # away from the critical point
    found = jax.jit(
        lambda x: networks.errors(
            PARAMS, layer, x, jnp.tanh, lambda outputs: jnp.mean((outputs - targets) ** 2)
        )
    )(POINT.inputs)
    grads = numpy_network.gradient(PARAMS, POINT.inputs, targets)[f"layer_{layer}"]
    signals = numpy_network.forward(PARAMS, POINT.inputs)[layer]
    np.testing.assert_allclose(found @ signals.T, grads["weight"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.sum(1), grads["bias"], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (np.zeros(3), "layers of a fully connected network.* got ndarray"),
        ({}, "layers of a fully connected network"),
        ({"conv1": {}}, "layer_0 to layer_0 .* got conv1"),
        ({"layer_0": {"kernel": np.ones((2, 2))}}, "layer_0 to hold a weight .* got kernel"),
        ({"layer_0": {"weight": np.ones((3, 3, 1, 8))}}, "layer_0 .* got shapes"),
        ({"layer_0": {"weight": np.ones((2, 1)), "bias": np.ones(3)}}, "layer_0 .* got shapes"),
        (
            {"layer_0": {"weight": np.ones((2, 1))}, "layer_1": {"weight": np.ones((1, 3))}},
            "layer_1 to take the 2 units",
        ),
    ],
)
def test_what_is_no_fully_connected_network_is_refused(params, message):
    with pytest.raises(ValueError, match=f"params: expected .*{message}"):
        networks.widths(params)


def test_a_layer_without_biases_is_accepted():
    assert networks.widths({"layer_0": {"weight": np.ones((2, 1))}}) == (1, 2)


@pytest.mark.parametrize(
    ("layer", "unit", "message"),
    [
        (2, None, r"layer: expected a hidden layer in \[0, 2\), got 2"),
        (-1, None, "layer: .* got -1"),
        (1, 4, r"unit: expected a number in \[0, 4\), got 4"),
        (0, np.int64(-1), "unit: .* got -1"),
    ],
)
def test_a_layer_or_unit_that_does_not_exist_is_refused(layer, unit, message):
    with pytest.raises(ValueError, match=message):
        networks.require_hidden(PARAMS, layer, unit)


def test_a_network_without_hidden_layers_has_none_to_embed():
    with pytest.raises(ValueError, match=r"layer: .* of a network that has some"):
        networks.require_hidden({"layer_0": {"weight": np.ones((2, 1))}}, 0)


@pytest.mark.parametrize("hidden", [(3,), (3, 4, 5), (2, 9), (9, 3)])
def test_a_target_narrower_than_the_source_or_of_another_depth_is_refused(hidden):
    with pytest.raises(ValueError, match="hidden: expected"):
        networks.require_wider(PARAMS, hidden)
    assert networks.require_wider(PARAMS, (3, 5)) == (3, 4)


@pytest.mark.parametrize("hidden", [5, [[3, 5]], np.int64(5)])
def test_widths_that_are_no_sequence_are_refused(hidden):
    with pytest.raises(ValueError, match="hidden: expected the width of each of the 2 hidden"):
        networks.require_wider(PARAMS, hidden)
    assert networks.require_wider(PARAMS, np.array([3, 5])) == (3, 4)


@pytest.mark.parametrize("layer", [0, 1])
def test_data_with_a_row_per_point_or_of_other_features_are_refused(layer):
    for inputs in (POINT.inputs.T, POINT.inputs[:1], POINT.inputs[0]):
        for function in (networks.preactivations, networks.layer_inputs):
            with pytest.raises(ValueError, match=r"inputs: expected shape \(2, n\), one column"):
                function(PARAMS, layer, inputs, jnp.tanh)


def test_the_size_of_a_unit_is_the_product_of_two_norms(x64):
    own, after = PARAMS["layer_0"], PARAMS["layer_1"]
    into = [np.linalg.norm([*row, b]) for row, b in zip(own["weight"], own["bias"], strict=True)]
    expected = np.array(into) * np.linalg.norm(after["weight"], axis=0)
    for params in (PARAMS, jax.tree.map(jnp.asarray, PARAMS)):
        np.testing.assert_allclose(networks.unit_sizes(params, 0), expected, rtol=1e-14)
    with pytest.raises(ValueError, match=r"layer: expected a hidden layer in \[0, 2\), got 5"):
        networks.unit_sizes(PARAMS, 5)
