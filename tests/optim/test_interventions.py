"""Interventions on Adam's second moment, against an Adam of plain NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import phenodl
from phenodl import probes, sweep, training
from phenodl.optim import adam, interventions
from phenodl.optim.adam import Adam
from phenodl.optim.interventions import NEVER, Intervention
from phenodl.protocol import Problem

SETTINGS = Adam(learning_rate=0.03, b1=0.8, b2=0.97, eps=1e-3)
LAYERS = ("a", "b")
STEPS = 60


def loss(params, batch):
    del batch
    return jnp.sum((params["a"] * jnp.tanh(params["b"]) - 0.5) ** 2)


def start(key, data, hyper):
    del data, hyper
    return {"a": jax.random.normal(key, (3,)), "b": jnp.ones(3)}


def by_layer(hyper):
    settings, intervention = adam.from_hyper(hyper), interventions.from_hyper(hyper, LAYERS)
    return interventions.transformation(settings, intervention)


def whole(hyper):
    settings, intervention = adam.from_hyper(hyper), interventions.from_hyper(hyper)
    return interventions.transformation(settings, intervention)


def record(layer):
    def now(view):
        return adam.preconditioner(view.method_state, b2=view.hyper["b2"], eps=view.hyper["eps"])

    return [
        probes.value(f"params_{layer}", lambda view: view.params[layer]),
        probes.value(f"grads_{layer}", lambda view: view.objective.grads[layer]),
        probes.value(f"diagonal_{layer}", lambda view: now(view)[layer]),
    ]


def trained(method, **arms):
    """Runs that differ in their interventions alone, arms along the first axis."""
    settings = SETTINGS._asdict()
    count = len(next(iter(arms.values())))
    runs = sweep.product(key=jax.random.key(0), arm=range(count), **settings)
    runs = runs._replace(
        hyper=runs.hyper | {name: jnp.asarray(values, float) for name, values in arms.items()}
    )
    found = [probes.loss(), *record("a"), *record("b")]
    problem = Problem(init=start, loss=loss)
    return phenodl.collect(training.train(problem, method, runs, steps=STEPS, probes=found))


def numpy_adam(theta, gradients, rule, switch):
    """Positions and preconditioners of Adam along recorded gradients, under a rule from a step."""
    eta, b1, b2, eps, _, _ = SETTINGS
    m, v, held = (np.zeros_like(theta) for _ in range(3))
    path, diagonals = [], []
    for t, g in enumerate(gradients):
        path.append(theta)
        m = b1 * m + (1 - b1) * g
        absorbed = 0 if t >= switch and rule == "decaying" else (1 - b2) * g**2
        v = b2 * v + absorbed
        corrected = v / (1 - b2 ** (t + 1))
        if t >= switch and rule == "frozen":
            corrected = held
        held = corrected
        diagonals.append(1 / (np.sqrt(corrected) + eps))
        theta = theta - eta * m / (1 - b1 ** (t + 1)) * diagonals[-1]
    return np.array(path), np.array(diagonals)


WHOLE = training.from_optax(whole)
BY_LAYER = training.from_optax(by_layer)


@pytest.fixture
def arms(x64):
    return trained(
        WHOLE,
        switch_step=[NEVER, 20, 20, 1],
        frozen=[0, 1, 0, 1],
        decaying=[0, 0, 1, 0],
    )


def test_every_rule_is_that_of_a_numpy_adam(arms):
    rules = [("none", NEVER), ("frozen", 20), ("decaying", 20), ("frozen", 1)]
    for arm, (rule, switch) in enumerate(rules):
        run = arms.isel(arm=arm)
        for layer in LAYERS:
            expected = numpy_adam(
                run[f"params_{layer}"].values[0], run[f"grads_{layer}"].values, rule, switch
            )
            for name, values in zip(("params", "diagonal"), expected, strict=True):
                measured = run[f"{name}_{layer}"].values
                np.testing.assert_allclose(measured, values, rtol=1e-11, atol=1e-13)


def test_arms_equal_their_control_bit_for_bit_until_the_switch(arms):
    for name in ("loss", "params_a", "params_b", "diagonal_a", "diagonal_b"):
        control, *others = arms[name].transpose("arm", ...).values
        for arm, switch in zip(others, (20, 20, 1), strict=True):
            until = switch + (not name.startswith("diagonal"))  # D_s, but θ_{s+1}, is the first
            np.testing.assert_array_equal(arm[:until], control[:until])
            assert (arm[until] != control[until]).any()


def test_a_control_is_optax(arms):
    hyper: dict[str, Any] = SETTINGS._asdict()
    runs = sweep.product(key=jax.random.key(0), arm=range(1), **hyper)
    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    found = [probes.loss(), *record("a"), *record("b")]
    problem = Problem(init=start, loss=loss)
    plain = phenodl.collect(training.train(problem, method, runs, steps=STEPS, probes=found))
    control = arms.isel(arm=[0])
    for name in ("loss", "params_a", "params_b"):
        np.testing.assert_array_equal(plain[name], control[name])


def test_a_frozen_layer_leaves_the_others_their_rule(x64):
    runs = trained(
        BY_LAYER,
        switch_step=[20, 20, 20],
        **{"frozen/a": [1, 0, 0], "frozen/b": [0, 1, 0]},
    )
    for arm, layer in enumerate(LAYERS):
        diagonals = {
            name: runs[f"diagonal_{name}"].isel(arm=arm).transpose("step", ...).values
            for name in LAYERS
        }
        (other,) = set(LAYERS) - {layer}
        late = diagonals[layer][20:]
        np.testing.assert_allclose(late, np.broadcast_to(diagonals[layer][19], late.shape), 1e-14)
        assert (np.diff(diagonals[other][19:], axis=0) != 0).all()
    path, _ = numpy_adam(
        runs.params_a.isel(arm=2).values[0], runs.grads_a.isel(arm=2).values, "none", NEVER
    )
    np.testing.assert_allclose(runs.params_a.isel(arm=2), path, rtol=1e-11, atol=1e-13)


def test_moments_keep_their_dtype():
    settings = jax.tree.map(jnp.asarray, SETTINGS)
    tx = interventions.transformation(settings, Intervention(jnp.asarray(1.0), jnp.ones(())))
    params = {"a": jnp.ones(3, jnp.float16), "b": jnp.ones(2)}
    with jax.numpy_dtype_promotion("standard"):
        _, state = tx.update(params, tx.init(params), params)
        _, state = tx.update(params, state, params)
    names = [leaf.dtype.name for leaf in jax.tree.leaves(adam.second_moment(state, b2=0.97))]
    assert names == ["float16", "float32"]
    assert adam.adam_state(state).count == 2


def updates_of(tx, params, gradients):
    """What a transformation does with the same gradients, whatever its updates."""

    @jax.jit
    def run():
        with jax.numpy_dtype_promotion("standard"):
            return jax.lax.scan(
                lambda state, g: tx.update(g, state, params)[::-1], tx.init(params), gradients
            )[1]

    return run()


def test_weight_decay_is_that_of_adamw_under_every_rule(x64):
    params = jnp.linspace(-1.0, 2.0, 5)
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)))
    settings = SETTINGS._replace(weight_decay=0.3)

    control = interventions.transformation(settings, Intervention(NEVER))
    adamw = updates_of(settings.transformation(), params, gradients)
    np.testing.assert_array_equal(updates_of(control, params, gradients), adamw)

    for rule in ("frozen", "decaying"):
        intervention = Intervention(2, **{rule: 1.0})
        with_decay, without = (
            updates_of(interventions.transformation(each, intervention), params, gradients)
            for each in (settings, SETTINGS)
        )
        difference = np.asarray(with_decay - without)
        expected = np.broadcast_to(-0.03 * 0.3 * params, difference.shape)
        np.testing.assert_allclose(difference, expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["frozen", "decaying"])
def test_the_very_first_step_is_adams(x64, rule):
    params, gradients = jnp.zeros(3), jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    first, second = (
        updates_of(
            interventions.transformation(SETTINGS, Intervention(step, **{rule: 1.0})),
            params,
            gradients,
        )
        for step in (0, 1)
    )
    np.testing.assert_array_equal(first, second)
    plain = updates_of(SETTINGS.transformation(), params, gradients)
    np.testing.assert_array_equal(first[0], plain[0])
    assert (first[1] != plain[1]).all()


def test_what_is_missing_is_named():
    hyper = {"switch_step": 1.0, "frozen/a": 1.0}
    with pytest.raises(ValueError, match=r"^hyper must name frozen/b; it names"):
        interventions.from_hyper(hyper, LAYERS)
    with pytest.raises(ValueError, match=r"^hyper must name frozen, decaying; it names"):
        interventions.from_hyper(hyper)
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    tx = interventions.transformation(SETTINGS, Intervention(1, {"a": 1.0}))
    with pytest.raises(ValueError, match=r"^frozen must have the layers .* misses or adds b$"):
        tx.init(params)
