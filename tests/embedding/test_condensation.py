import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl import sweep, training
from phenodl.compiler import QUICKLY
from phenodl.embedding import condensation
from phenodl.embedding.networks import incoming, unit_sizes
from phenodl.models import mlp
from phenodl.optim import flow
from phenodl.protocol import Layout, Objective


def rate(objective, params, hyper):
    return hyper["learning_rate"]


X = np.linspace(-1, 1, 12)[:, None]
Y = np.sin(2 * X) + X**2


def ones(*widths):
    fans = enumerate(itertools.pairwise(widths))
    return {f"layer_{n}": {"weight": np.ones((b, a)), "bias": np.ones(b)} for n, (a, b) in fans}


def copies(params, counts):
    """Every unit of hidden layer l as counts[l] equal copies that share its output weights."""
    layers = [dict(params[f"layer_{number}"]) for number in range(len(params))]
    for number, count in enumerate(counts):
        layers[number] = {name: np.repeat(leaf, count, 0) for name, leaf in layers[number].items()}
        after = layers[number + 1]
        after["weight"] = np.repeat(after["weight"], count, 1) / count
    return {f"layer_{number}": layer for number, layer in enumerate(layers)}


def test_draws_follow_the_description(x64):
    draw = jax.jit(condensation.init, static_argnums=1, compiler_options=dict(QUICKLY))
    params = draw(jax.random.key(0), (3, 60, 40, 2), output_scale=0.5, input_std=1e-3)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, mlp.init(jax.random.key(0), (3, 60, 40, 2))
    )
    last = params["layer_2"].pop("weight")
    np.testing.assert_allclose(np.abs(last).sum(1), 0.5)
    assert set(np.sign(last).ravel()) == {-1, 1}
    rest = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    # 2,682 draws: standard deviation within 5 standard errors, fourth moment that of a Gaussian.
    assert abs(rest.std() / 1e-3 - 1) < 5 / np.sqrt(2 * rest.size)
    assert abs(np.mean((rest / 1e-3) ** 4) - 3) < 5 * np.sqrt(96 / rest.size)
    assert np.unique(rest).size == rest.size


def test_a_problem_starts_from_it(x64):
    model = mlp.problem(X, Y, hidden=[6], bias=False)
    init = condensation.start([6], output_scale=3.0, input_std=1e-9, bias=False)
    params = init(jax.random.key(1), model.data, {})
    assert jax.tree.map(jnp.shape, params) == {
        "layer_0": {"weight": (6, 1)},
        "layer_1": {"weight": (1, 6)},
    }
    np.testing.assert_allclose(np.abs(params["layer_1"]["weight"]), 0.5)


def test_at_mean_field_rates_a_wide_network_moves_as_the_narrow_one_it_copies(x64):
    narrow = jax.tree.map(np.asarray, mlp.init(jax.random.key(2), (1, 2, 3, 1)))
    wide = copies(narrow, (3, 2))
    model = mlp.problem(X, Y)
    method, hyper = condensation.mean_field(flow.rk4(rate)), {"learning_rate": 0.1}

    def step(params, _):
        def loss(params):
            return model.loss(params, model.data)

        objective = Objective(loss, *jax.value_and_grad(loss)(params))
        return method.step(objective, params, method.init(params, hyper), hyper)[0], None

    @functools.partial(jax.jit, compiler_options=dict(QUICKLY))
    def train(params):
        return jax.lax.scan(step, params, length=20)[0]

    moved, expected = train(wide), copies(train(narrow), (3, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), moved, expected)
    assert np.abs(expected["layer_0"]["weight"] - wide["layer_0"]["weight"]).max() > 1e-3


def test_a_run_condenses_on_the_direction_that_the_data_give(x64):
    """While all weights are tiny every neuron moves along the mean of (x, 1) (y - mean y)."""
    model = mlp.problem(X, Y, hidden=[30])._replace(init=condensation.start([30]))
    runs = sweep.product(key=jax.random.key(3), learning_rate=0.05)
    method = condensation.mean_field(flow.rk4(rate))
    (chunk,) = training.train(model, method, runs, steps=200, chunk=200, layout=Layout(width=1))
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[0], chunk.state().params)
    rows = incoming(params["layer_0"])
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    residual = Y - Y.mean()
    expected = (residual * np.hstack([X, np.ones_like(X)])).mean(0)
    expected = expected / np.linalg.norm(expected)
    # The output bias is still on its way to the mean when the neurons begin to turn.
    signs = np.sign(params["layer_1"]["weight"][0])
    assert (signs[:, None] * directions @ expected).min() > 0.5
    assert (directions * signs[:, None]).std(0).max() < 1e-4
    assert float(condensation.condensation(params, 0, mlp.tanh)) > 1 - 1e-8
    # The signs are random: without the symmetry of the activation the two halves cancel.
    share = np.asarray(unit_sizes(params, 0))
    resultant = (share * signs).sum() / share.sum()
    oriented = float(condensation.condensation(params, 0, jax.nn.gelu))
    np.testing.assert_allclose(oriented, resultant**2, atol=1e-6)


def test_condensation_is_the_weighted_mean_over_pairs(x64):
    rng = np.random.default_rng(0)
    params = {
        "layer_0": {"weight": rng.standard_normal((5, 3)), "bias": rng.standard_normal(5)},
        "layer_1": {"weight": rng.standard_normal((2, 5)), "bias": rng.standard_normal(2)},
    }
    params["layer_0"]["weight"][3], params["layer_0"]["bias"][3] = 0.0, 0.0  # has no direction
    rows = np.hstack([params["layer_0"]["weight"], params["layer_0"]["bias"][:, None]])
    sizes = [
        np.linalg.norm(row) * np.linalg.norm(params["layer_1"]["weight"][:, unit])
        for unit, row in enumerate(rows)
    ]
    np.testing.assert_allclose(unit_sizes(params, 0), sizes)
    plain = absolute = 0.0
    for i in (0, 1, 2, 4):
        for j in (0, 1, 2, 4):
            cosine = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            weight = sizes[i] * sizes[j] / sum(sizes) ** 2
            plain, absolute = plain + weight * cosine, absolute + weight * abs(cosine)
    measure = jax.jit(condensation.condensation, static_argnums=(1, 2))
    np.testing.assert_allclose(measure(params, 0, jax.nn.relu), plain)
    np.testing.assert_allclose(measure(params, 0, jnp.tanh), absolute)


def test_factors_of_layers_with_and_without_bias():
    params = ones(7, 20, 5, 3)
    del params["layer_1"]["bias"]
    assert condensation.learning_rates(params) == {
        "layer_0": {"weight": 20.0, "bias": 20.0},
        "layer_1": {"weight": 0.25},
        "layer_2": {"weight": 0.2, "bias": 1.0},
    }


def test_what_is_no_network_or_no_hidden_layer_is_refused():
    params = ones(1, 4, 1)
    with pytest.raises(ValueError, match="layer: expected a hidden layer"):
        condensation.condensation(params, 1, jnp.tanh)
    with pytest.raises(ValueError, match="params: expected"):
        condensation.learning_rates({"kernel": {"weight": jnp.ones((2, 2))}})
    with pytest.raises(ValueError, match="widths: expected"):
        condensation.init(jax.random.key(0), [3])


def test_single_precision_stays_what_it_is_next_to_double(x64):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), ones(1, 3, 1))
    method = condensation.mean_field(flow.rk4(rate))

    def loss(params):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

    hyper = {"learning_rate": np.float32(0.1)}
    objective = Objective(loss, *jax.value_and_grad(loss)(params))
    moved, _, _ = method.step(objective, params, method.init(params, hyper), hyper)
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype("float32")}
