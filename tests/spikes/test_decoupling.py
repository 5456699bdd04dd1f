"""The decay of v on moments made by the recursion itself, and by optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import phenodl
from phenodl import probes, sweep, training
from phenodl.optim import adam
from phenodl.protocol import Layout, Problem
from phenodl.spikes.decoupling import (
    Decay,
    by_layer,
    fit,
    layer_names,
    moments_probe,
    onset,
    uncorrected,
)


def moments(squared_gradient, b2):
    """v_t = b2 v_{t-1} + (1 - b2) g_t², from v = 0."""
    v, out = 0.0, []
    for square in squared_gradient:
        v = b2 * v + (1 - b2) * square
        out.append(v)
    return np.array(out)


@pytest.mark.parametrize("b2", [0.95, 0.99, 0.999])
def test_without_gradient_the_decay_is_b2(b2):
    squares = np.where(np.arange(400) < 150, 1.0, 0.0)
    decay = fit(squares, moments(squares, b2))
    assert decay.factor == pytest.approx(b2, abs=1e-12)
    assert decay[1:] == (150, 399)


def test_a_gradient_in_proportion_to_v_slows_the_decay_as_the_recursion_says():
    # g² = .05 v gives v_t = b2 v_{t-1} / (1 - .05 (1 - b2)).
    b2, share = 0.99, 0.05
    factor = b2 / (1 - share * (1 - b2))
    v = factor ** np.arange(100)
    assert fit(share * v, v).factor == pytest.approx(factor, abs=1e-12)


def test_the_longest_quiet_stretch_is_fitted():
    squares = np.ones(300)
    squares[100:120] = squares[150:250] = 0
    assert fit(squares, moments(squares, 0.99))[1:] == (150, 249)


def test_nothing_to_fit():
    squares = np.ones(50)
    squares[[20, 21, 40]] = 0
    assert np.isnan(fit(squares, moments(squares, 0.99)).factor)
    assert fit(np.ones(50), moments(np.ones(50), 0.99))[1:] == Decay(np.nan, -1, -1)[1:]


def test_onset():
    squares, v = np.array([1.0, 0.5, 0.09, 0.5, 0.0]), np.ones(5)
    assert onset(squares, v) == 2
    assert onset(squares, v, ratio=0.05) == 4
    assert onset(np.ones(5), v) == -1


def test_onset_since_a_step_and_for_a_while():
    squares = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    v = np.ones(8)
    assert [onset(squares, v, since=step) for step in (0, 2, 4, 6)] == [1, 3, 4, 7]
    assert [onset(squares, v, lasting=steps) for steps in (1, 2, 3, 4)] == [1, 3, 3, -1]
    assert onset(squares, v, since=4, lasting=2) == 4


def test_the_fit_is_of_the_window_alone():
    squares = np.ones(300)
    squares[100:120] = squares[150:250] = 0
    v = moments(squares, 0.99)
    assert fit(squares, v, until=140)[1:] == (100, 119)
    assert fit(squares, v, since=160, until=200)[1:] == (160, 199)
    assert fit(squares, v, since=160, until=200).factor == pytest.approx(0.99, abs=1e-12)
    assert fit(squares, v, since=260)[1:] == (-1, -1)


def test_layers_are_each_by_themselves():
    b2, quiet = 0.98, (60, 120, 400)
    squares = np.where(np.arange(400)[:, None] < quiet, 1.0, 0.0)
    v = np.stack([moments(layer, b2) for layer in squares.T], axis=1)
    corrected = v / (1 - b2 ** np.arange(1, 401)[:, None])
    found = by_layer(squares, corrected, b2, until=300)
    assert found.onset.tolist() == [60, 120, -1]
    assert found.first.tolist() == [60, 120, -1]
    assert found.last.tolist() == [299, 299, -1]
    np.testing.assert_allclose(found.factor, [b2, b2, np.nan], atol=1e-10)
    assert by_layer(squares, corrected, b2, until=100).onset.tolist() == [60, -1, -1]
    assert by_layer(squares, corrected, b2, since=200).onset.tolist() == [200, 200, -1]


PARAMS = {"in": {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}, "out": {"w": jnp.zeros(2)}}


def draw(key, data, hyper):
    keys = jax.random.split(key, 3)
    leaves, tree = jax.tree.flatten(PARAMS)
    return tree.unflatten(
        jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)
    )


def network(params, batch):
    return (
        jnp.tanh(batch["x"] @ params["in"]["w"] + params["in"]["b"][None]) @ params["out"]["w"]
    ).var()


PROBLEM = Problem(draw, network, data={"x": np.random.default_rng(0).normal(size=(6, 3))})
METHOD = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())


@pytest.mark.parametrize(("depth", "sizes"), [(1, [8, 2]), (2, [2, 6, 2])])
def test_the_probe_records_the_moments_of_each_layer(x64, depth, sizes):
    def flat_gradient(view):
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(view.objective.grads)])

    seen = [moments_probe(depth=depth), probes.value("grads", flat_gradient)]
    runs = sweep.product(key=jax.random.key(0), learning_rate=[0.1], b2=[0.9])
    chunks = training.train(PROBLEM, METHOD, runs, steps=12, chunk=12, probes=seen)
    results = phenodl.collect(chunks).isel(learning_rate=0, b2=0)

    borders = np.cumsum([0, *sizes[:-1]])
    squares = np.add.reduceat(results.grads.values**2, borders, axis=1)
    v = np.stack([moments(layer, 0.9) for layer in squares.T], axis=1)
    np.testing.assert_allclose(results.squared_gradient, squares, rtol=1e-12)
    np.testing.assert_allclose(
        results.second_moment, v / (1 - 0.9 ** np.arange(1, 13)[:, None]), rtol=1e-12
    )
    assert len(layer_names(PARAMS, depth)) == len(sizes)


def test_masked_parameters_have_no_second_moment():
    def masked(hyper):
        labels = {"in": "frozen", "out": "adam"}
        parts = {"adam": optax.adam(hyper["learning_rate"]), "frozen": optax.set_to_zero()}
        return optax.partition(parts, labels)

    runs = sweep.product(key=jax.random.key(0), learning_rate=[0.1])
    chunks = training.train(
        PROBLEM, training.from_optax(masked), runs, steps=3, probes=[moments_probe()]
    )
    results = phenodl.collect(chunks)
    second, squares = results.second_moment.values[0], results.squared_gradient.values[0]
    assert (second[:, 0] == 0).all()
    assert (second[:, 1] > 0).all()
    assert (squares > 0).all()


def test_names_are_those_of_arrays_and_of_shapes():
    shapes = jax.eval_shape(lambda: PARAMS)
    for params in (PARAMS, shapes):
        assert layer_names(params) == ("in", "out")
        assert layer_names(params, 2) == layer_names(params, 3) == ("in/b", "in/w", "out/w")
    assert layer_names(jnp.zeros(3)) == ("",)


def test_bad_depth_and_layout_are_named():
    with pytest.raises(ValueError, match="depth must be at least 1; it is 0"):
        moments_probe(depth=0)
    runs = sweep.product(key=jax.random.key(0), learning_rate=[0.1, 0.2])
    problem = Problem(lambda key, data, hyper: jnp.ones(3), lambda x, batch: (x**2).sum(0))
    layout = Layout(run_axis=-1)
    with pytest.raises(ValueError, match=r"use Layout\(run_axis=0\)"):
        list(
            training.train(problem, METHOD, runs, steps=1, probes=[moments_probe()], layout=layout)
        )


def test_the_uncorrected_moment_is_the_one_that_optax_keeps(x64):
    grads = np.random.default_rng(0).normal(size=(40, 3))
    tx = optax.adam(0.1, b2=0.97)

    def step(state, grad):
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(grad, state)
            corrected = optax.tree.bias_correction(state[0].nu, 0.97, state[0].count)
        return state, (state[0].nu.sum(), corrected.sum())

    _, (kept, corrected) = jax.jit(lambda g: jax.lax.scan(step, tx.init(g[0]), g))(
        jnp.asarray(grads)
    )
    np.testing.assert_allclose(uncorrected(np.asarray(corrected), 0.97), kept, rtol=1e-10)
    np.testing.assert_allclose(kept, moments((grads**2).sum(axis=1), 0.97), rtol=1e-10)
