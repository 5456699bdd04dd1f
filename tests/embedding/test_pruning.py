import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_networks import draw

from phenodl.embedding.networks import layers, network, preactivations, widths
from phenodl.embedding.pruning import layer_linearization, merge, prune
from phenodl.models import mlp

INPUTS = np.linspace(-1, 1, 11)[None]
measured = jax.jit(layer_linearization, static_argnames=("layer", "activation"))


def insert(params, layer, scale=1.0, shift=50.0):
    """One more layer, (scale Q, shift), for an activation that is the identity there."""
    old = layers(params)
    weight, bias = np.asarray(old[layer]["weight"]), np.asarray(old[layer]["bias"])
    frame = np.linalg.qr(np.random.default_rng(layer).standard_normal((4, weight.shape[1])))[0]
    first = {"weight": scale * frame, "bias": np.full(4, shift)}
    second = weight @ frame.T / scale
    after = {"weight": second, "bias": bias - second @ first["bias"]}
    return network([*old[:layer], first, after, *old[layer + 1 :]])


def test_linearization_is_the_least_squares_line_of_every_unit(x64):
    params = draw([1, 3, 2])
    slope, intercept, departure = measured(params, 0, INPUTS, jnp.tanh)
    z = np.asarray(preactivations(params, 0, INPUTS, jnp.tanh))
    lines = [np.polyfit(row, np.tanh(row), 1) for row in z]
    np.testing.assert_allclose(np.stack([slope, intercept], 1), lines, rtol=1e-12)
    weight = np.asarray(params["layer_1"]["weight"])
    read = weight @ np.tanh(z)
    affine = weight @ np.stack([np.polyval(*each) for each in zip(lines, z, strict=True)])
    deviation = np.sqrt(np.mean((read - affine) ** 2))
    varying = np.sqrt(np.mean((read - read.mean(1, keepdims=True)) ** 2))
    assert float(departure) == pytest.approx(deviation / varying, rel=1e-12)


def test_constant_units_are_affine(x64):
    params = draw([1, 3, 2])
    params["layer_0"]["weight"] = jnp.zeros((3, 1))
    slope, intercept, departure = measured(params, 0, INPUTS, jnp.tanh)
    np.testing.assert_array_equal(slope, 0)
    np.testing.assert_allclose(intercept, np.tanh(params["layer_0"]["bias"]), rtol=1e-14)
    assert float(departure) == 0


def test_merging_undoes_a_lift(x64):
    params = draw([1, 4, 3, 1])
    deeper = insert(params, 1)
    fit = measured(deeper, 1, INPUTS, jax.nn.elu)
    np.testing.assert_allclose(fit.slope, 1, atol=1e-12)
    assert float(fit.departure) < 1e-13
    for old, new in zip(layers(params), layers(merge(deeper, 1, fit)), strict=True):
        np.testing.assert_allclose(new["weight"], old["weight"], atol=1e-11)
        np.testing.assert_allclose(new["bias"], old["bias"], atol=1e-11)


def test_pruning_finds_the_inserted_layers_and_no_other(x64):
    params = draw([1, 4, 1], seed=2)
    deeper = insert(insert(params, 1), 0)
    assert widths(deeper) == (1, 4, 4, 4, 1)
    pruned = prune(deeper, INPUTS, jax.nn.elu, tolerance=1e-9)
    assert widths(pruned) == (1, 4, 1)
    for network_ in (deeper, pruned):
        np.testing.assert_allclose(
            mlp.apply(network_, INPUTS, jax.nn.elu),
            mlp.apply(params, INPUTS, jax.nn.elu),
            atol=1e-11,
        )


def test_tolerance_decides_on_nearly_affine_layers(x64):
    """Small pre-activations of tanh, where it departs from affine by their square."""
    params = draw([1, 4, 1], seed=2)
    deeper = insert(params, 1, scale=1e-2, shift=0.0)
    departure = float(measured(deeper, 1, INPUTS, jnp.tanh).departure)
    assert 1e-6 < departure < 1e-3
    assert widths(prune(deeper, INPUTS, jnp.tanh, tolerance=2 * departure)) == (1, 4, 1)
    assert widths(prune(deeper, INPUTS, jnp.tanh, tolerance=departure / 2)) == widths(deeper)


def test_what_is_not_finite_is_not_affine(x64):
    params = draw([1, 4, 1])
    params["layer_0"]["weight"] = params["layer_0"]["weight"].at[0, 0].set(jnp.nan)
    assert np.isnan(measured(params, 0, INPUTS, jnp.tanh).departure)
    with pytest.raises(ValueError, match=r"^params: expected a network that is finite on the inp"):
        prune(params, INPUTS, jnp.tanh, tolerance=0.1)


def test_refusals(x64):
    params = draw([1, 4, 1])
    with pytest.raises(ValueError, match=r"^layer: expected a hidden layer in \[0, 1\), got 1"):
        layer_linearization(params, 1, INPUTS, jnp.tanh)
    with pytest.raises(ValueError, match=r"^tolerance: expected a number of at least 0, got -1"):
        prune(params, INPUTS, jnp.tanh, tolerance=-1)
    without = {**params, "layer_0": {"weight": params["layer_0"]["weight"]}}
    with pytest.raises(ValueError, match=r"^params: expected biases in layer_0 and layer_1"):
        merge(without, 0, measured(params, 0, INPUTS, jnp.tanh))
