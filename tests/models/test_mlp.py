import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.data import functions
from phenodl.models import mlp


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("widths", [(1, 1), (3, 5, 2), (2, 4, 6, 4, 1)])
def test_outputs_equal_a_loop_over_units_and_points(widths):
    params = mlp.init(jax.random.key(0), widths)
    inputs = np.random.default_rng(0).standard_normal((widths[0], 7))
    ours = jax.jit(mlp.apply)(params, inputs)
    for point in range(7):
        signal = list(inputs[:, point])
        for number in range(len(widths) - 1):
            weight, bias = (np.asarray(params[f"layer_{number}"][n]) for n in ("weight", "bias"))
            signal = [np.tanh(x) for x in signal] if number else signal
            signal = [
                b + sum(w * x for w, x in zip(row, signal, strict=True))
                for row, b in zip(weight, bias, strict=True)
            ]
        np.testing.assert_allclose(ours[:, point], signal, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_initial_parameters_are_uniform_within_the_fan_in_bound():
    params = jax.vmap(lambda key: mlp.init(key, [4, 100, 1]))(
        jax.random.split(jax.random.key(0), 50)
    )
    for layer, bound in (("layer_0", 1 / 2), ("layer_1", 1 / 10)):
        for name in ("weight", "bias"):
            draws = np.asarray(params[layer][name]) / bound
            assert np.abs(draws).max() <= 1
            assert np.abs(draws).max() > 0.9
            # Mean and variance of the uniform distribution, within five standard errors.
            assert abs(draws.mean()) < 5 / np.sqrt(3 * draws.size)
            assert abs(draws.var() - 1 / 3) < 5 * np.sqrt(4 / 45 / draws.size)


@pytest.mark.usefixtures("x64")
def test_tanh_has_the_derivatives_of_the_hyperbolic_tangent():
    x = jnp.linspace(-5, 5, 41)
    first, second = jax.vmap(jax.grad(mlp.tanh)), jax.vmap(jax.grad(jax.grad(mlp.tanh)))
    sech = 1 / np.cosh(x)
    np.testing.assert_allclose(first(x), sech**2, atol=1e-15)
    np.testing.assert_allclose(second(x), -2 * np.tanh(x) * sech**2, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_loss_is_the_mean_squared_error_and_linear_models_are_linear():
    random = np.random.default_rng(1)
    inputs, targets = random.standard_normal((9, 3)), random.standard_normal((9, 2))
    model = mlp.problem(inputs, targets, hidden=[])
    params = model.init(jax.random.key(1), model.data, {})
    weight, bias = (np.asarray(params["layer_0"][name]) for name in ("weight", "bias"))
    expected = ((inputs @ weight.T + bias - targets) ** 2).mean()
    assert float(model.loss(params, model.data)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.usefixtures("x64")
def test_layers_may_have_no_bias():
    random = np.random.default_rng(2)
    inputs, targets = random.standard_normal((9, 3)), random.standard_normal((9, 2))
    model = mlp.problem(inputs, targets, hidden=[4], bias=False)
    params = model.init(jax.random.key(2), model.data, {})
    first, last = (np.asarray(params[f"layer_{number}"]["weight"]) for number in (0, 1))
    assert all(layer.keys() == {"weight"} for layer in params.values())
    with_bias = mlp.init(jax.random.key(2), [3, 4, 2])
    np.testing.assert_array_equal(first, with_bias["layer_0"]["weight"])

    outputs = np.tanh(inputs @ first.T) @ last.T
    assert float(model.loss(params, model.data)) == pytest.approx(
        ((outputs - targets) ** 2).mean(), rel=1e-13
    )
    shift = np.array([1.0, -2.0])
    mixed = params | {"layer_1": params["layer_1"] | {"bias": jnp.asarray(shift)}}
    np.testing.assert_allclose(
        mlp.apply(mixed, model.data["inputs"]), (outputs + shift).T, rtol=1e-13
    )


def test_activation_and_dtype_are_those_asked_for():
    inputs, targets = functions.sine_mixture(10)
    model = mlp.problem(inputs, targets, hidden=[3], activation=jnp.zeros_like)
    params = model.init(jax.random.key(0), model.data, {})
    bias = params["layer_1"]["bias"]
    outputs = mlp.apply(params, model.data["inputs"], jnp.zeros_like)
    assert outputs.dtype == jnp.float32
    np.testing.assert_array_equal(outputs, np.broadcast_to(bias, (1, 10)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="widths: expected two or more"):
        mlp.init(jax.random.key(0), [3])
    with pytest.raises(ValueError, match="inputs: expected shape"):
        mlp.problem(np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="targets: expected one row per input, 3 in all, got 4"):
        mlp.problem(np.zeros((3, 1)), np.zeros((4, 1)))
