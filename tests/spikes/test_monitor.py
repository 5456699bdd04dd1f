"""The monitor in a user's own training loop: flax, optax, jit, and nothing of the engine."""

import difflib
import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from phenodl.spikes.monitor import monitor

SCHEDULE = optax.cosine_decay_schedule(0.02, 100)
OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(10.0), optax.adamw(SCHEDULE, b2=0.99, weight_decay=0.1)
)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(5, param_dtype=x.dtype)(x))
        return nn.Dense(1, param_dtype=x.dtype)(x)


def loss(params, batch):
    inputs, targets = batch
    return ((Network().apply(params, inputs) - targets) ** 2).mean()


@jax.jit
def train_step(params, opt_state, batch):
    value, grads = jax.value_and_grad(loss)(params, batch)
    updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return params, opt_state, value


@jax.jit
def monitored_step(params, opt_state, batch):
    value, grads = jax.value_and_grad(loss)(params, batch)
    updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
    report = monitor(
        loss, params, opt_state, batch, learning_rate=SCHEDULE, b2=0.99, weight_decay=0.1
    )
    params = optax.apply_updates(params, updates)
    return params, opt_state, value, report


def test_monitoring_adds_at_most_five_lines():
    plain, monitored = (
        inspect.getsource(step.__wrapped__).splitlines()[2:]
        for step in (train_step, monitored_step)
    )
    difference = [line for line in difflib.ndiff(plain, monitored) if line[0] in "+-"]
    added = [line for line in difference if line[0] == "+"]
    changed = [line for line in difference if line[0] == "-"]
    assert [line.split()[1] for line in changed] == ["return"]
    assert len(added) + len(["the import"]) <= 5


def batches(dtype, mini):
    rng = np.random.default_rng(1)
    inputs = rng.uniform(-2, 2, (32, 2)).astype(dtype)
    targets = np.sin(3 * inputs[:, :1]) * inputs[:, 1:]
    while True:
        rows = rng.choice(32, 8) if mini else slice(None)
        yield inputs[rows], targets[rows]


@jax.jit
def derivatives(params, batch):
    flat, unravel = ravel_pytree(params)

    def function(flat):
        return loss(unravel(flat), batch)

    return jax.grad(function)(flat), jax.hessian(function)(flat)


def moment(gradients, decay):
    weights = (1 - decay) * decay ** np.arange(len(gradients))[::-1]
    return np.tensordot(weights, gradients, 1) / (1 - decay ** len(gradients))


def reference(hessian, gradients, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1):
    """What the report must say, by dense linear algebra in double precision."""
    g, count = gradients[-1], len(gradients)
    d = 1 / (np.sqrt(moment(gradients**2, b2)) + eps)
    u = d * moment(gradients, b1)
    factor = (1 - b1) / (1 + b1) / (1 - b1**count)
    symmetric = factor * np.sqrt(d)[:, None] * hessian * np.sqrt(d)
    values, vectors = np.linalg.eigh(symmetric)
    turned = np.sqrt(d) * g
    eta = 0.02 * 0.5 * (1 + np.cos(np.pi * (count - 1) / 100))
    return {
        "lambda_grad": g @ hessian @ g / (g @ g),
        "curvature_a": factor * g @ (d * (hessian @ g)) / (g @ g),
        "curvature_b": factor * (d * g) @ hessian @ (d * g) / (g @ (d * g)),
        "curvature_c": factor * u @ hessian @ u / (u @ (u / d)),
        "lambda_max": values[-1],
        "alignment": abs(vectors[:, -1] @ turned) / np.linalg.norm(turned),
        "gap": values[-1] - values[-2],
        "threshold": 2 / eta - weight_decay,
    }


@pytest.mark.parametrize(
    ("dtype", "mini"),
    [("float32", True), ("float64", False)],
    ids=["float32-mini-batch", "float64-full-batch"],
)
def test_report_equals_the_dense_reference(dtype, mini):
    """Under optax's usual promotion rules, as in a user's program."""
    tolerance = {"float32": 2e-4, "float64": 1e-9}[dtype]
    gradients, stream = [], batches(dtype, mini)
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        params = jax.jit(Network().init)(jax.random.key(0), next(stream)[0])
        opt_state = OPTIMIZER.init(params)
        for _ in range(12):
            batch = next(stream)
            before = params
            params, opt_state, _, report = monitored_step(params, opt_state, batch)
            with jax.enable_x64(True):
                double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (before, batch))
                gradient, hessian = map(np.asarray, derivatives(*double))
            gradients.append(gradient)
    expected = reference(hessian, np.stack(gradients))
    assert np.linalg.norm(gradients, axis=1).max() < 10, "clipping would be at work"
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(report))
    # An eigenvector is known to the residual over the gap, its eigenvalue to the square of that.
    doubt = float(report.residual) / expected.pop("gap") + tolerance
    assert float(report.alignment) == pytest.approx(expected.pop("alignment"), abs=doubt)
    assert doubt < 0.02
    for name, value in expected.items():
        scale = max(abs(value), 0.1 * expected["lambda_max"])
        assert abs(float(getattr(report, name)) - value) < tolerance * scale, name
    assert float(report.ratio) == pytest.approx(
        float(report.curvature_a / report.threshold), rel=1e-6
    )


def quadratic(params, batch):
    return 0.5 * (batch * params["w"] ** 2).sum()


def absorb(tx, params, batch):
    with jax.numpy_dtype_promotion("standard"):
        return tx.update(jax.grad(quadratic)(params, batch), tx.init(params), params)[1]


@functools.cache
def spread():
    """A diagonal quadratic with eigenvalues 1 to 100 and the state of SGD-like Adam, D = 1/eps."""
    batch = jnp.arange(1.0, 101.0)
    params = {"w": jnp.ones(100)}
    return params, absorb(optax.adam(0.1, b1=0.0, eps=1e6), params, batch), batch


def test_warm_start_makes_three_products_enough():
    params, opt_state, batch = spread()

    @jax.jit
    def step(start):
        hyper = {"learning_rate": 0.1, "b1": 0.0, "eps": 1e6}
        return monitor(quadratic, params, opt_state, batch, products=3, start=start, **hyper)

    report = step(None)
    cold_error = 100e-6 - float(report.lambda_max)
    for _ in range(40):
        report = step(report.vector)
    assert cold_error > 1e-6
    assert float(report.lambda_max) == pytest.approx(100e-6, rel=1e-3)


def test_without_products_the_eigenvalue_is_left_out():
    params, opt_state, batch = spread()
    report = jax.jit(
        lambda: monitor(quadratic, params, opt_state, batch, learning_rate=0.1, products=0)
    )()
    assert np.isnan(report.lambda_max)
    assert np.isnan(report.residual)
    assert np.isnan(report.alignment)
    assert np.isfinite(report.curvature_b)


def test_reads_injected_hyperparameters():
    params, _, batch = spread()
    hyper = {"learning_rate": 0.05, "b1": 0.5, "eps": 1e6}
    injected = absorb(optax.inject_hyperparams(optax.adam)(**hyper), params, batch)
    plain = absorb(optax.adam(**hyper), params, batch)
    call = jax.jit(functools.partial(monitor, quadratic, products=0))
    np.testing.assert_allclose(
        call(params, injected, batch)[:4], call(params, plain, batch, **hyper)[:4], rtol=1e-6
    )
    assert float(call(params, injected, batch).threshold) == pytest.approx(40, rel=1e-6)


def test_bad_input_is_named():
    params, opt_state, batch = spread()
    with pytest.raises(ValueError, match="learning_rate"):
        monitor(quadratic, params, opt_state, batch)
    with pytest.raises(ValueError, match="products"):
        monitor(quadratic, params, opt_state, batch, learning_rate=0.1, products=-1)
    with pytest.raises(ValueError, match="exactly one"):
        monitor(quadratic, params, optax.sgd(0.1).init(params), batch, learning_rate=0.1)
