"""The post-mortem against dense linear algebra and a run followed to its crossing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import phenodl
from phenodl.optim import adam
from phenodl.spikes.diagnosis import diagnose, page
from phenodl.spikes.monitor import monitor

SCALES = {"in": [1.0, 2.0], "out": [30.0]}
RATE, B2 = 0.1, 0.99


def loss(params, scale):
    terms = [(jnp.asarray(SCALES[name]) * x**2).sum() for name, x in params.items()]
    return 0.5 * scale * (terms[0] + terms[1])


def checkpoint(tx, steps=3, scale=1.0):
    params = {"in": jnp.array([1.0, -2.0]), "out": jnp.array([0.5])}
    state = tx.init(params)
    for _ in range(steps):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(jax.grad(loss)(params, scale), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_what_it_says_is_what_dense_algebra_says(x64):
    params, state = checkpoint(optax.adam(RATE, b2=B2))
    found = diagnose(loss, params, state, 1.0, learning_rate=RATE, b2=B2, products=3)
    diagonal = adam.preconditioner(state, b2=B2)
    curvatures = np.concatenate([np.asarray(diagonal[name]) * SCALES[name] for name in SCALES])
    factor = 0.1 / 1.9 / (1 - 0.9**3)
    top = factor * curvatures.max()
    np.testing.assert_allclose(found.report.lambda_max, top, rtol=1e-10)
    np.testing.assert_allclose(found.stable_learning_rate, 2 / top, rtol=1e-10)
    expected = max(0.0, 2 * np.log(2 / RATE / top) / -np.log(B2))
    np.testing.assert_allclose(found.steps_to_threshold, expected, rtol=1e-10)
    assert found.layers == ("in", "out")
    shares = [0.0, 0.0]
    shares[int(curvatures.argmax() == 2)] = 1.0
    np.testing.assert_allclose(found.mass, shares, atol=1e-8)


def test_weight_decay_lowers_the_stable_learning_rate(x64):
    params, state = checkpoint(optax.adamw(RATE, b2=B2, weight_decay=0.5))
    given = {"learning_rate": RATE, "b2": B2, "weight_decay": 0.5, "products": 3}
    found = diagnose(loss, params, state, 1.0, **given)
    rate = float(found.stable_learning_rate)
    again = monitor(loss, params, state, 1.0, **{**given, "learning_rate": rate})
    np.testing.assert_allclose(again.lambda_max, again.threshold, rtol=1e-9)


def test_the_stable_learning_rate_is_right_in_float32():
    """Where 2/η is 2 million, and what counts, the eigenvalue and the weight decay, about one."""
    rate, decay = 1e-6, 0.5
    params, state = checkpoint(optax.adamw(rate, b1=0.5, b2=0.5, weight_decay=decay), steps=1)
    settings = {"b1": 0.5, "b2": 0.5, "weight_decay": decay, "products": 3}
    found = diagnose(loss, params, state, 1.0, learning_rate=rate, **settings)
    assert found.stable_learning_rate.dtype == np.float32
    # After one gradient D h = 1 / |x|, the largest at x = 1/2; the momentum factor is 2/3.
    np.testing.assert_allclose(found.stable_learning_rate, 2 / (2 / 3 / 0.5 + decay), rtol=1e-6)


def test_without_a_learning_rate_nothing_is_near():
    params, state = checkpoint(optax.adam(RATE, b2=B2))
    given = {"b2": B2, "products": 3}
    still = diagnose(loss, params, state, 1.0, learning_rate=0.0, **given)
    moving = diagnose(loss, params, state, 1.0, learning_rate=RATE, **given)
    assert still.steps_to_threshold == np.inf
    np.testing.assert_array_equal(still.stable_learning_rate, moving.stable_learning_rate)
    assert "Stable." in page(still)
    assert "nan" not in page(still)


def test_weight_decay_that_alone_is_too_much_is_beyond():
    """2/η below the weight decay: no v helps, a smaller η does."""
    params, state = checkpoint(optax.adamw(RATE, b2=B2, weight_decay=25.0))
    given = {"b2": B2, "weight_decay": 25.0, "products": 3}
    found = diagnose(loss, params, state, 1.0, learning_rate=RATE, **given)
    assert found.report.threshold < 0
    assert found.steps_to_threshold == 0
    text = page(found)
    assert "Unstable" in text
    assert "v times" not in text


def test_a_v_that_only_decays_crosses_when_it_says(x64):
    """Past gradients large, present ones nil: v decays by b2 a step, exactly."""
    params, state = checkpoint(optax.adam(RATE, b2=B2), steps=200)
    still = jax.tree.map(lambda x: 1e-9 * x, params)
    given = {"learning_rate": RATE, "b2": B2, "products": 3}
    found = diagnose(loss, still, state, 1.0, **given)
    steps = float(found.steps_to_threshold)
    assert 10 < steps < np.inf

    def relative(count):
        inside = adam.adam_state(state)
        decayed = jax.tree.map(lambda v: v * B2**count, inside.nu)
        later = adam.with_second_moment(state, decayed)
        report = monitor(loss, still, later, 1.0, **given)
        return float(report.lambda_max / report.threshold)

    assert relative(np.floor(steps)) < 1.0005
    assert relative(np.ceil(steps)) > 0.9995


def test_the_page_names_what_leads_to_the_spike():
    params, state = checkpoint(optax.adam(RATE, b2=B2), steps=20)
    calm = page(diagnose(loss, params, state, 1.0, learning_rate=RATE, b2=B2))
    assert "Stable." in calm
    still = jax.tree.map(lambda x: 1e-3 * x, params)
    steep = page(diagnose(loss, still, state, 1e4, learning_rate=RATE, b2=B2))
    assert "Unstable along the gradient" in steep
    assert "a learning rate below" in steep
    assert "    optimizer = optax.adam(" in steep
    assert "phenodl.guarded(" in steep
    fading = page(diagnose(loss, still, state, 1.0, learning_rate=RATE, b2=B2))
    assert "v decays on its own (g² below v̂/10) in in, out" in fading


def reassured(text):
    return [phrase for phrase in ("Stable", "v follows", "steps away") if phrase in text]


def test_a_checkpoint_of_nans_is_not_stable():
    params, state = checkpoint(optax.adam(RATE, b2=B2))
    gone = jax.tree.map(lambda x: jnp.nan * x, params)
    text = page(diagnose(loss, gone, state, 1.0, learning_rate=RATE, b2=B2))
    assert "Not finite: the loss, the gradient, the curvature along the gradient" in text
    assert not reassured(text)
    assert "optimizer =" not in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(value):
    params, state = checkpoint(optax.adam(RATE, b2=B2), steps=20)
    found = diagnose(loss, params, state, 1.0, learning_rate=RATE, b2=B2)
    assert reassured(page(found))
    report = found.report
    for broken, name in (
        (found._replace(loss=value), "the loss"),
        (found._replace(grad_norm=value), "the gradient"),
        (found._replace(report=report._replace(curvature_a=value)), "the curvature along the"),
        (found._replace(report=report._replace(lambda_max=value)), "the largest eigenvalue"),
    ):
        text = page(broken)
        assert f"Not finite: {name}" in text
        assert not reassured(text)


def test_a_v_without_memory_is_not_unstable_for_that():
    params, state = checkpoint(optax.adam(RATE, b2=0.0))
    found = diagnose(loss, params, state, 1.0, learning_rate=RATE, b2=0.0)
    assert found.report.lambda_max < found.report.threshold
    text = page(found)
    assert "Stable." in text
    assert "Unstable" not in text
    assert "optimizer =" not in text


def test_the_lines_of_the_page_go_on_from_the_checkpoint():
    params, saved_opt_state = checkpoint(optax.adam(RATE, b2=B2), steps=20)
    params = jax.tree.map(lambda x: 1e-3 * x, params)
    found = diagnose(loss, params, saved_opt_state, 1e4, learning_rate=RATE, b2=B2)
    lines = [line.strip() for line in page(found).splitlines() if line.startswith("    ")]
    lines = [line for line in lines if " = " in line]
    assert len(lines) == 3
    names = {"optax": optax, "phenodl": phenodl, "params": params}
    names |= {"saved_opt_state": saved_opt_state, "learning_rate": RATE}

    advised = float(re.split(r"[()]", lines[0])[1])
    half = float(found.stable_learning_rate) / 2
    assert 0.9 * half < advised <= half
    again = diagnose(loss, params, saved_opt_state, 1e4, learning_rate=advised, b2=B2)
    assert "Unstable" not in page(again)

    for line in lines:
        exec(line, names)
    grads = jax.grad(loss)(params, 1.0)
    with jax.numpy_dtype_promotion("standard"):
        _, state = names["optimizer"].update(grads, names["state"], params)
    assert adam.adam_state(state).count == 21


def test_a_state_without_gradients_is_refused():
    tx = optax.adam(RATE)
    params = {"in": jnp.ones(2), "out": jnp.ones(1)}
    with pytest.raises(ValueError, match="opt_state must have absorbed a gradient"):
        diagnose(loss, params, tx.init(params), 1.0, learning_rate=RATE)
