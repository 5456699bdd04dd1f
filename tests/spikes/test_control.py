"""Guarded optimizers against optax's own, closed forms, and runs that would diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import phenodl
from phenodl import probes, sweep, training
from phenodl.optim import adam
from phenodl.protocol import Problem
from phenodl.spikes import control, predict
from phenodl.spikes.control import guarded
from phenodl.spikes.detect import detect
from phenodl.spikes.predict import Predictor

RATE, B2 = 0.1, 0.9


def constant(signal):
    """A predictor that always says the same."""
    return Predictor(lambda params: (), lambda state, seen: (state, jnp.asarray(signal)))


def steps(tx, gradients, params):
    """Updates and states of a few steps."""
    state, taken = tx.init(params), []
    for grads in gradients:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = jax.jit(tx.update)(grads, state, params)
        taken.append((updates, state))
        params = optax.apply_updates(params, updates)
    return taken


GRADIENTS = np.random.default_rng(5).standard_normal((4, 3)).astype(np.float32)
START = jnp.array([1.0, -2.0, 3.0])
OPTIMIZERS = {
    "adam": lambda: optax.adam(RATE, b2=B2),
    "adamw": lambda: optax.adamw(RATE, b2=B2, weight_decay=0.3),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE, b2=B2)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=RATE, b2=B2),
}
RESPONSES = {
    "scale": control.scale(0.5),
    "raise_all": control.raise_all(0.5),
    "raise_coordinates": control.raise_coordinates(0.5),
    "floor": control.floor(3.0),
    "switch_b2": control.switch_b2(0.2),
    "reset": control.reset(),
}


def second_moment(state):
    return np.asarray(adam.second_moment(state.optimizer, b2=B2), float)


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("signal", [0.4, -7.0, np.nan, np.inf])
def test_without_an_alarm_the_updates_are_the_optimizers_own_bit_for_bit(response, signal):
    plain = steps(OPTIMIZERS["adam"](), GRADIENTS, START)
    tx = guarded(
        OPTIMIZERS["adam"](), RESPONSES[response], constant(signal), learning_rate=RATE, b2=B2
    )
    for (expected, _), (found, state) in zip(plain, steps(tx, GRADIENTS, START), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert not state.active
    assert state.corrected == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_scaling_multiplies_the_whole_step(optimizer):
    plain = steps(OPTIMIZERS[optimizer](), GRADIENTS[:1], START)
    tx = guarded(
        OPTIMIZERS[optimizer](), control.scale(0.5), constant(2.0), learning_rate=RATE, b2=B2
    )
    ((found, state),) = steps(tx, GRADIENTS[:1], START)
    np.testing.assert_allclose(found, 0.25 * plain[0][0], rtol=1e-6)
    assert (bool(state.active), int(state.corrected), float(state.signal)) == (True, 1, 2.0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_raised_v_divides_adams_step_and_leaves_the_rest_of_the_chain(optimizer):
    ((plain, before),) = steps(OPTIMIZERS[optimizer](), GRADIENTS[:1], START)
    tx = guarded(
        OPTIMIZERS[optimizer](), control.raise_all(0.5), constant(2.0), learning_rate=RATE, b2=B2
    )
    ((found, state),) = steps(tx, GRADIENTS[:1], START)
    decay = -RATE * 0.3 * np.asarray(START) if optimizer == "adamw" else 0.0
    np.testing.assert_allclose(found - decay, (plain - decay) / 4, rtol=2e-5)
    raised = 16 * np.asarray(adam.second_moment(before, b2=B2), float)
    np.testing.assert_allclose(second_moment(state), raised, rtol=1e-5)
    assert adam.adam_state(state.optimizer).count == 1


def test_floor_switch_and_reset_give_the_v_that_they_promise(x64):
    gradients = GRADIENTS.astype(float)
    start = START.astype(float)
    follow = np.zeros(3)
    for response in ("floor", "switch_b2", "reset"):
        tx = guarded(
            OPTIMIZERS["adam"](), RESPONSES[response], constant(2.0), learning_rate=RATE, b2=B2
        )
        found = [second_moment(state) for _, state in steps(tx, gradients, start)]
        v, follow = np.zeros(3), []
        for count, g in enumerate(gradients, 1):
            correction = 1 - B2**count
            if response == "floor":
                v = np.maximum(B2 * v + (1 - B2) * g**2, 9 * correction)
            elif response == "switch_b2":
                v = 0.2 * v + 0.8 * g**2
            else:
                v = correction * g**2
            follow.append(v / correction)
        np.testing.assert_allclose(found, follow, rtol=1e-9)


def late(signal, first=1):
    """A predictor that says the same from some step on, and nothing before."""
    return Predictor(
        lambda params: jnp.zeros((), int),
        lambda count, seen: (count + 1, jnp.where(count < first, jnp.nan, signal)),
    )


def test_raised_coordinates_are_those_of_the_curvature(x64):
    """Against the formula in NumPy, on the second step, the first that can look back."""
    gradients, start = np.array([[1.0, 2.0, 3.0], [1.5, 2.0, -5.0]]), START.astype(float)
    tx = guarded(
        OPTIMIZERS["adam"](), control.raise_coordinates(0.5), late(2.0), learning_rate=RATE, b2=B2
    )
    (_, first), (_, second) = steps(tx, gradients, start)
    v = B2 * np.asarray(adam.adam_state(first.optimizer).nu) + (1 - B2) * gradients[1] ** 2
    np.testing.assert_allclose(v, (1 - B2) * (B2 * gradients[0] ** 2 + gradients[1] ** 2))
    diagonal = 1 / (np.sqrt(v / (1 - B2**2)) + 1e-8)
    shares = diagonal * (gradients[1] - gradients[0]) ** 2
    raised = v * (1 + (4.0**2 - 1) * np.minimum(shares / shares.mean(), 1))
    assert np.isfinite(raised).all()
    np.testing.assert_allclose(second_moment(second), raised / (1 - B2**2), rtol=1e-9)


def test_where_no_curvature_is_known_no_coordinate_is_raised():
    """At the first step there is nothing to compare with; later the gradient may not change."""
    same = np.repeat(GRADIENTS[:1], 3, axis=0)
    plain = steps(OPTIMIZERS["adam"](), same, START)
    tx = guarded(
        OPTIMIZERS["adam"](),
        control.raise_coordinates(0.5),
        constant(2.0),
        learning_rate=RATE,
        b2=B2,
    )
    for (expected, _), (found, state) in zip(plain, steps(tx, same, START), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert state.active


def test_a_reset_sees_a_gradient_that_is_lost_in_v():
    """g² is 1e-10 of v: in float32 the difference of two v does not know it."""
    gradients = np.concatenate([np.ones((30, 3)), np.full((60, 3), 1e-5)]).astype(np.float32)
    settings = {"learning_rate": RATE, "b2": 0.999}
    tx = guarded(optax.adam(**settings), control.reset(), late(2.0, len(gradients) - 1), **settings)
    _, state = steps(tx, gradients, START)[-1]
    found = adam.second_moment(state.optimizer, b2=0.999)
    np.testing.assert_allclose(found, np.full(3, 1e-10), rtol=0.1)


def test_the_rest_of_the_chain_gets_what_the_guard_is_given():
    tx = guarded(
        optax.chain(optax.adam(RATE), optax.contrib.reduce_on_plateau(patience=1)),
        learning_rate=RATE,
    )
    state = tx.init(START)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(4):
            _, state = tx.update(START, state, START, value=jnp.ones(()))
    (plateau,) = (each for each in state.optimizer if hasattr(each, "plateau_count"))
    assert float(plateau.scale) < 1


def ravine(theta, scales):
    return 0.5 * (scales * theta**2).sum()


@pytest.mark.parametrize(
    ("response", "predictor"),
    [
        (control.scale(0.5), predict.exact("curvature_c")),
        (control.raise_all(0.9), predict.exact("curvature_b")),
        (control.raise_coordinates(0.6), predict.secant("norm")),
    ],
)
def test_what_controls_a_quadratic_keeps_it_from_spiking(x64, response, predictor):
    """On a quadratic Adam spikes for the decay of v alone (SPIKE)."""
    problem = Problem(
        init=lambda key, data, hyper: jnp.array([1.0, -0.5]),
        loss=ravine,
        batch=lambda data, key, step: data["scales"],
        data={"scales": jnp.array([1.0, 0.3])},
    )
    runs = sweep.product(key=jax.random.key(0), seed=[0], learning_rate=0.15, b2=0.98)

    def spikes(transformation):
        method = training.from_optax(transformation)
        chunks = training.train(problem, method, runs, steps=1200, probes=[probes.loss()])
        return int(detect(phenodl.collect(chunks).loss.values.ravel())[0].count)

    def controlled(hyper):
        settings = adam.from_hyper(hyper)
        return guarded(settings.transformation(), response, predictor, **settings._asdict())

    assert spikes(lambda hyper: adam.from_hyper(hyper).transformation()) > 0
    assert spikes(controlled) == 0


def test_what_cannot_be_guarded_is_refused():
    free, params = predict.secant(), jnp.zeros(2)
    with pytest.raises(ValueError, match="optimizer must have one second moment"):
        guarded(optax.sgd(0.1), control.scale(), free, learning_rate=0.1).init(params)
    with pytest.raises(ValueError, match="learning_rate must be given"):
        guarded(optax.adam(0.1), control.scale(), free).init(params)
    for wrong in (0.0, -1.0, np.nan, jnp.zeros(())):
        with pytest.raises(ValueError, match="margin must be positive"):
            control.scale(wrong)
    tx = guarded(optax.adam(0.1), control.scale(), predict.exact(), learning_rate=0.1)
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(ValueError, match="it must be given as a function"),
    ):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="params must be given to update"):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match="state must come from init of the guarded optimizer"):
        tx.update(params, optax.adam(0.1).init(params), params)
    with pytest.raises(ValueError, match=r"put optax\.MultiSteps around"):
        guarded(optax.MultiSteps(optax.adam(0.1), 2), learning_rate=0.1).init(params)
    with pytest.raises(ValueError, match="b2 must be positive"):
        guarded(optax.adam(0.1, b2=0.0), learning_rate=0.1, b2=0.0)
    with pytest.raises(ValueError, match=r"all float32 or all float64 .*; got bfloat16"):
        guarded(optax.adam(0.1), learning_rate=0.1).init(params.astype(jnp.bfloat16))
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(ValueError, match="loss must return one number alone; it returns a tuple"),
    ):
        tx.update(params, tx.init(params), params, value_fn=lambda x: (x.sum(), x))
