"""Models of the users' own, in loops of their own: watched, guarded, and refused where need be."""

import difflib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_loops import HYPER, IMPORTS, PLAIN, WATCHED, bare_loss, batch, watchful, weights

from phenodl import diagnose, guarded, monitor
from phenodl.spikes import control, predict
from phenodl.spikes.control import GuardedState
from phenodl.spikes.detect import detect

STEPS = 300


@pytest.fixture(scope="module", autouse=True)
def _usual_promotion():
    """As in a user's program."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def quickly_compiled():
    """Optimizing the code of so small a network takes longer than it saves in a training."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def triggers(losses):
    found = np.asarray(jax.jit(detect)(jnp.asarray(losses))[0].trigger)
    return found[found >= 0]


@pytest.fixture(scope="module")
def plain_losses():
    losses, _, _ = PLAIN["bare"](weights(0), batch(), STEPS)
    return np.array(losses)


@pytest.mark.parametrize("framework", PLAIN)
def test_guard_and_monitor_together_add_at_most_five_lines(framework):
    plain, watched = (
        inspect.getsource(loops[framework]).splitlines()[1:] for loops in (PLAIN, WATCHED)
    )
    difference = [line for line in difflib.ndiff(plain, watched) if line[0] in "+-"]
    added = [line for line in difference if line[0] == "+"]
    changed = [line.split()[1] for line in difference if line[0] == "-"]
    assert changed in (["optimizer", "return"], ["adam", "return"])
    assert len(added) - len(changed) + IMPORTS <= 5


@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("framework", PLAIN)
def test_a_guarded_loop_has_no_spikes_where_the_plain_one_has(framework, plain_losses):
    watched, _, state = WATCHED[framework](weights(0), batch(), STEPS, watchful())
    losses, ratios = np.array(watched).T
    assert losses[0] == pytest.approx(plain_losses[0]), "the same network in every framework"
    assert len(triggers(plain_losses)) >= 3
    assert len(triggers(losses)) == 0
    assert losses[-1] < plain_losses[-1]
    assert isinstance(state, GuardedState)
    assert 0 < int(state.corrected) < 0.12 * STEPS
    assert np.isfinite(ratios).all()


@pytest.mark.usefixtures("quickly_compiled")
def test_the_monitor_rises_above_its_threshold_before_every_spike():
    watched, _, _ = WATCHED["bare"](weights(0), batch(), STEPS, watchful(np.inf))
    losses, ratios = np.array(watched).T
    spikes = triggers(losses)
    assert len(spikes) >= 3
    for spike in spikes:
        above = np.flatnonzero(ratios[spike - 30 : spike] > 1)
        assert 0 < above.size < 15, "an alarm, and not one that always rings"


def test_a_guard_that_never_triggers_leaves_every_update_of_a_training_bit_for_bit():
    """Compiled by themselves: XLA may round a step fused with what comes before and after it."""
    inputs = batch()
    plain, gradient = optax.adam(**HYPER), jax.jit(jax.grad(bare_loss))
    quiet = guarded(plain, watchful(np.inf), **HYPER)
    params = weights(0)
    states = [tx.init(params) for tx in (plain, quiet)]
    updates = [jax.jit(tx.update) for tx in (plain, quiet)]
    above = 0
    for _ in range(STEPS):
        grads = gradient(params, inputs)
        (expected, states[0]), (found, states[1]) = (
            update(grads, state, params) for update, state in zip(updates, states, strict=True)
        )
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        jax.tree.map(np.testing.assert_array_equal, states[1].optimizer, states[0])
        above += bool(states[1].signal > 1)
        params = jax.tree.map(lambda x, u: np.asarray(x) + np.asarray(u), params, expected)
    assert above > 0, "the training must be one in which a guard would have acted"
    assert int(states[1].corrected) == 0


PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
LABELS = {"a": "x", "b": "y"}


def square(params, batch):
    return 0.5 * batch * sum((x**2).sum() for x in params.values())


def absorbed(tx, steps=3):
    """The state after a few steps, and the updates of the last."""
    params, state, update = PARAMS, tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(steps):
        updates, state = update(params, state, params)  # the gradient of square
        params = optax.apply_updates(params, updates)
    return state, updates


@pytest.fixture(scope="module")
def adam_state():
    return absorbed(optax.adam(0.1))[0]


@pytest.mark.parametrize(
    ("optimizer", "holds"),
    [
        (optax.sgd(0.1), ""),
        (optax.sgd(0.1, momentum=0.9), ""),
        (optax.lion(0.1), ""),
        (optax.adafactor(0.1), ""),
        (optax.amsgrad(0.1), ""),
        (optax.partition({"x": optax.adam(0.1), "y": optax.adam(0.2)}, LABELS), "found 2"),
    ],
    ids=["sgd", "momentum", "lion", "adafactor", "amsgrad", "two"],
)
def test_an_optimizer_without_one_adam_is_refused(optimizer, holds):
    state = optimizer.init(PARAMS)
    for look in (monitor, diagnose):
        with pytest.raises(ValueError, match=f"exactly one optax.ScaleByAdamState.*{holds}"):
            look(square, PARAMS, state, 1.0, learning_rate=0.1)
    with pytest.raises(ValueError, match="optimizer must have one second moment"):
        guarded(optimizer, watchful(), predict.secant(), learning_rate=0.1).init(PARAMS)


INSIDE = {
    "partition": lambda adam: optax.partition({"x": adam, "y": optax.sgd(0.01)}, LABELS),
    "masked": lambda adam: optax.masked(adam, {"a": True, "b": False}),
    "clipped": lambda adam: optax.chain(optax.clip_by_global_norm(1.0), adam),
    "finite": lambda adam: optax.apply_if_finite(adam, 3),
    "steps": lambda adam: optax.MultiSteps(adam, 2),
}


@pytest.mark.parametrize("wrapped", INSIDE)
def test_a_guarded_adam_may_stand_inside_other_optimizers(wrapped):
    """Adam's part of the first step is scaled, and what the wrapper does beside it stays."""
    loud = predict.Predictor(lambda params: (), lambda state, seen: (state, jnp.float32(1.0)))
    adam, steps = optax.adam(0.1), 2 if wrapped == "steps" else 1
    quarter = guarded(adam, control.scale(0.25), loud, learning_rate=0.1)
    _, plain = absorbed(INSIDE[wrapped](adam), steps)
    state, found = absorbed(INSIDE[wrapped](quarter), steps)
    is_guard = lambda node: isinstance(node, GuardedState)
    (guard,) = filter(is_guard, jax.tree.leaves(state, is_leaf=is_guard))
    assert int(guard.corrected) == 1
    shares = {"a": 0.25, "b": 1.0 if wrapped in ("partition", "masked") else 0.25}
    for name, share in shares.items():
        np.testing.assert_allclose(found[name], share * plain[name], rtol=1e-6)


@jax.custom_vjp
def kernel(x):
    return x**2


kernel.defvjp(lambda x: (x**2, x), lambda x, cotangent: (2 * x * cotangent,))

LOSSES = {
    "must return one number alone; it returns a tuple of 2": lambda p, _: ((p["a"] ** 2).sum(), p),
    r"must return one number; it returns an array of shape \(2,\)": lambda p, _: p["a"] ** 2,
    "must return one number; it returns a dict": lambda p, _: p,
    "must return a real number; it returns int32": lambda p, _: p["a"].size,
    "no forward derivative: it calls kernel at .*, a jax.custom_vjp": lambda p, _: (
        kernel(p["a"]).sum() + (p["b"] ** 2).sum()
    ),
}


@pytest.mark.parametrize("message", LOSSES)
@pytest.mark.parametrize("look", [monitor, diagnose])
def test_a_loss_without_curvature_is_refused(look, message, adam_state):
    with pytest.raises(ValueError, match=f"^(the )?loss (has )?{message}"):
        jax.eval_shape(
            lambda params: look(LOSSES[message], params, adam_state, 1.0, learning_rate=0.1), PARAMS
        )


def test_an_exact_guard_names_what_has_no_curvature():
    tx = guarded(optax.adam(0.1), watchful(), predict.exact(), learning_rate=0.1)
    with pytest.raises(ValueError, match=r"it calls kernel at .*, a jax.custom_vjp"):
        jax.eval_shape(
            lambda params: tx.update(
                params, tx.init(params), params, value_fn=lambda p: kernel(p["a"]).sum()
            ),
            PARAMS,
        )


def test_the_state_of_another_tree_is_refused(adam_state):
    with pytest.raises(ValueError, match="opt_state must be that of params"):
        monitor(square, {"a": PARAMS["a"]}, adam_state, 1.0, learning_rate=0.1)


@pytest.mark.usefixtures("x64", "quickly_compiled")
@pytest.mark.parametrize(
    ("name", "b1", "felt"),
    [("adam", 0.9, 1), ("nadam", 0.9, 1 + 2 * 0.9), ("nadam", 0.5, 1 + 2 * 0.5)],
)
def test_where_the_monitor_says_so_a_step_turns_unstable(name, b1, felt):
    """One step of optax on a quadratic is a matrix, once D and the bias corrections stand still."""
    settings = {"learning_rate": 0.1, "b1": b1, "eps": 0.0, "eps_root": 1.0}
    tx = getattr(optax, name)(**settings)
    adam, *others = tx.init(jnp.zeros(1))
    late = lambda mu: (adam._replace(count=jnp.int32(100_000), mu=mu), *others)
    loss = lambda params, curvature: 0.5 * curvature * (params**2).sum()

    @jax.jit
    def matrix(curvature):
        def step(params, mu):
            updates, state = tx.update(curvature * params, late(mu), params)
            return params + updates, state[0].mu

        return jax.jacobian(step, (0, 1))(jnp.zeros(1), jnp.zeros(1))

    report = monitor(loss, jnp.ones(1), late(jnp.zeros(1)), 1.0, **settings, products=0)
    critical = 1 / report.ratio / felt
    radii = [
        abs(np.linalg.eigvals(np.squeeze(matrix(part * critical)))).max()
        for part in (0.999, 1, 1.001)
    ]
    assert radii[0] < 1 - 1e-5
    assert radii[1] == pytest.approx(1, abs=1e-9)
    assert radii[2] > 1 + 1e-5


@pytest.fixture(scope="module")
def trainings():
    """What ``own_mesh`` found, a program to be quickly compiled too."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    }
    program = Path(__file__).with_name("own_mesh.py")
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("split", ["data", "model"])
def test_a_guarded_and_monitored_loop_is_the_same_on_a_mesh(trainings, split):
    alone, found = trainings["alone"], trainings[split]
    np.testing.assert_allclose(found["history"], alone["history"], rtol=1e-5)
    assert found["corrected"] == alone["corrected"] > 0
    assert found["compilations"] == 1
    assert found["elsewhere"] == [], "moments and last point lie where the parameters do"
