import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import phenodl
from phenodl import probes, sweep, training
from phenodl.compiler import QUICKLY
from phenodl.curvature import cold_start, linearize
from phenodl.optim import adam
from phenodl.optim.adam import Adam
from phenodl.protocol import Layout, Objective, Problem, View
from phenodl.spikes import curvatures
from phenodl.spikes.snapshots import Snapshot, snapshot

RNG = np.random.default_rng(0)
DATA = {"inputs": RNG.normal(size=(12, 3)), "targets": RNG.normal(size=(12, 2))}


def network(params, batch):
    inputs, targets = batch["inputs"], batch["targets"]
    hidden = jnp.tanh(inputs @ params["first"]["w"] + params["first"]["b"])
    return ((hidden @ params["second"]["w"] - targets) ** 2).mean()


def draw(key, data, hyper):
    keys = jax.random.split(key, 3)
    first = {"w": jax.random.normal(keys[0], (3, 4)), "b": jax.random.normal(keys[1], (1, 4))}
    return {"first": first, "second": {"w": jax.random.normal(keys[2], (4, 2))}}


DRAW = jax.jit(lambda seed: draw(jax.random.key(seed), None, None))


def random_rows(data, key, step):
    rows = jax.random.choice(key, 12, (5,))
    return jax.tree.map(lambda leaf: leaf[rows], data)


ADAM = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())


def quickly(function):
    return jax.jit(function, compiler_options=dict(QUICKLY))


@quickly
def dense_hessian(flat, batch):
    _, unravel = ravel_pytree(draw(jax.random.key(0), None, None))
    return jax.hessian(lambda flat: network(unravel(flat), batch))(flat)


def moment(gradients, decay):
    """The bias-corrected moving average as an explicit weighted sum, oldest gradient first."""
    weights = (1 - decay) * decay ** np.arange(len(gradients))[::-1]
    return np.tensordot(weights, gradients, 1) / (1 - decay ** len(gradients))


def layer_shares(vector):
    """The squared entries of the first layer, b and w, and of the second; or of b alone."""
    squares = vector**2
    return np.add.reduceat(squares, [0, 16] if len(vector) > 8 else [0])


def dense_curvatures(hessian, gradients, b1=0.9, b2=0.999, eps=1e-8):
    """All curvatures by plain linear algebra from the history of gradients, the last one at θ_t."""
    g, m = gradients[-1], moment(gradients, b1)
    d = 1 / (np.sqrt(moment(gradients**2, b2)) + eps)
    factor = (1 - b1) / (1 + b1) / (1 - b1 ** len(gradients))
    adams = factor * d[:, None] * hessian
    root = np.sqrt(d)
    plain, top = (
        np.linalg.eigh(matrix)[1][:, -1] for matrix in (hessian, root[:, None] * hessian * root)
    )
    turned = root * g
    return {
        "alignment": abs(top @ turned) / np.linalg.norm(turned),
        "alignment_plain": abs(plain @ g) / np.linalg.norm(g),
        "mass": layer_shares(top),
        "mass_plain": layer_shares(plain),
        "lambda_grad": g @ hessian @ g / (g @ g),
        "curvature_a": g @ adams @ g / (g @ g),
        "curvature_b": factor * (d * g) @ hessian @ (d * g) / (g @ (d * g)),
        "curvature_c": factor * (d * m) @ hessian @ (d * m) / ((d * m) @ (m)),
        "lambda_max": np.linalg.eigvalsh(hessian)[-1],
        "lambda_max_adam": np.linalg.eigvalsh(factor * root[:, None] * hessian * root)[-1],
    }


ALIGNMENT = jax.jit(curvatures.alignment, static_argnums=2)


def at(grads, diagonal):
    """Adam with these, in float32."""
    grads, diagonal, one = (np.asarray(part, np.float32) for part in (grads, diagonal, 1))
    return Snapshot(*map(jnp.asarray, (grads, grads, diagonal, one, one)))


def flat(tree):
    return ravel_pytree(tree)[0]


@pytest.mark.usefixtures("x64")
def test_probes_equal_the_dense_reference_along_a_training_on_mini_batches():
    hyper = {"learning_rate": [0.02, 0.1], "b2": [0.9, 0.99], "b1": 0.8, "eps": 1e-6}
    runs = sweep.product(key=jax.random.key(1), seed=[3], **hyper)
    seen = [
        curvatures.gradient_probe(),
        curvatures.eigenvalue_probe(products=24, depth=1),
        curvatures.threshold_probe(),
        probes.value("params", lambda view: flat(view.params)),
        probes.value("grads", lambda view: flat(view.objective.grads)),
        probes.value("inputs", lambda view: view.batch["inputs"]),
        probes.value("targets", lambda view: view.batch["targets"]),
    ]
    problem = Problem(draw, network, random_rows, DATA)
    layout = Layout(compiler_options=QUICKLY)
    chunks = training.train(problem, ADAM, runs, steps=12, chunk=12, probes=seen, layout=layout)
    results = phenodl.collect(chunks).isel(seed=0)
    for eta in hyper["learning_rate"]:
        for b2 in hyper["b2"]:
            run = results.sel(learning_rate=eta, b2=b2)
            np.testing.assert_allclose(run.threshold, 2 / eta, rtol=1e-14)
            for step in (0, 1, 11):
                batch = {name: run[name].values[step] for name in ("inputs", "targets")}
                hessian = np.asarray(dense_hessian(run.params.values[step], batch))
                history = run.grads.values[: step + 1]
                expected = dense_curvatures(hessian, history, b1=0.8, b2=b2, eps=1e-6)
                for name, value in expected.items():
                    measured = run[name].values[step]
                    tolerance = 1e-10 if "lambda" in name or "curvature" in name else 1e-6
                    assert measured == pytest.approx(value, rel=tolerance), name


@pytest.mark.usefixtures("x64")
def test_a_few_warm_started_products_hold_the_eigenvalues():
    budgets = {3: 1e-5, 6: 1e-6}  # products and the typical error
    probes = {products: curvatures.eigenvalue_probe(products=products) for products in budgets}
    hyper = {"learning_rate": 0.02, "b2": 0.99}
    tx = adam.from_hyper(hyper).transformation()

    def loss(params):
        return network(params, DATA)

    def step(carry, number):
        params, opt_state, remembered = carry
        value, grads, hvp = linearize(loss, params)
        with jax.numpy_dtype_promotion("standard"):
            update, opt_state = tx.update(grads, opt_state, params)
        objective = Objective(loss, value, grads, hvp)
        view = View(objective, params, opt_state, update, DATA, number, number, hyper)
        seen = {
            products: probe.measure(remembered[products], view)
            for products, probe in probes.items()
        }
        remembered = {products: state for products, (state, _) in seen.items()}
        values = {products: measured for products, (_, measured) in seen.items()}
        moved = optax.apply_updates(params, update)
        return (moved, opt_state, remembered), (flat(params), flat(grads), values)

    @quickly
    def train(params):
        key = jax.random.key(0)
        remembered = {products: probe.init(key, params) for products, probe in probes.items()}
        return jax.lax.scan(step, (params, tx.init(params), remembered), jnp.arange(200))[1]

    params, grads, values = jax.tree.map(np.asarray, train(DRAW(2)))
    errors = {products: [] for products in budgets}
    for number in range(50, 200, 10):
        hessian = np.asarray(dense_hessian(params[number], DATA))
        expected = dense_curvatures(hessian, grads[: number + 1], b2=0.99)
        for name, products in itertools.product(("lambda_max", "lambda_max_adam"), budgets):
            found = {key: value[number] for key, value in values[products].items()}
            errors[products].append(abs(found[name] / expected[name] - 1))
            assert found[f"{name}_residual"] < 0.1 * expected[name]
    for products, typical in budgets.items():
        assert np.median(errors[products]) < typical
        assert max(errors[products]) < 1e-3


@pytest.mark.usefixtures("x64")
def test_snapshot_of_adamw_with_a_schedule():
    schedule = optax.linear_schedule(0.2, 0.0, 10)
    settings = Adam(schedule, weight_decay=0.3)
    grads = {"w": jnp.arange(1.0, 4.0)}

    @jax.jit
    def measure(grads):
        tx = settings.transformation()
        state = tx.init(grads)
        for _ in range(4):
            with jax.numpy_dtype_promotion("standard"):
                _, state = tx.update(grads, state, grads)
        return snapshot(state, settings, grads)

    now = measure(grads)
    assert float(now.threshold) == pytest.approx(2 / (0.2 * 0.7) - 0.3, rel=1e-6)
    assert float(now.factor) == pytest.approx(0.1 / 1.9 / (1 - 0.9**4), rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_frozen_parameters_have_no_curvature():
    """Only the second layer is Adam's: the reference is the dense block of that layer."""
    params = DRAW(4)
    labels = {"first": "frozen", "second": "adam"}
    tx = optax.partition({"adam": optax.adam(0.1), "frozen": optax.set_to_zero()}, labels)

    @quickly
    def measure(params):
        _, grads, hvp = linearize(lambda p: network(p, DATA), params)
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(grads, tx.init(params), params)
        now = snapshot(state, Adam(0.1), grads)
        top = curvatures.eigenpair(hvp, now, "lambda_max_adam", cold_start(params), 26)
        values = curvatures.directional(lambda p: network(p, DATA), params, now)
        return grads, values | {"lambda_max_adam": top.values[0]}

    grads, values = measure(params)
    block = np.asarray(dense_hessian(flat(params), DATA))[16:, 16:]
    expected = dense_curvatures(block, np.asarray(flat(grads["second"]))[None])
    for name, value in values.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-10), name


def test_float32_gradients_whose_squares_underflow():
    curvature = jnp.array([1.0, 4.0, 9.0])

    def loss(theta):
        return 0.5 * (curvature * theta**2).sum()

    theta = 1e-25 * jnp.array([1.0, -2.0, 1.0])
    g = np.array([1.0, -8.0, 9.0])
    now = Snapshot(
        jax.grad(loss)(theta), 0.1 * jax.grad(loss)(theta), jnp.full(3, 1e8), *jnp.ones(2)
    )
    values = jax.jit(lambda now: curvatures.directional(loss, theta, now))(now)
    expected = (g * np.asarray(curvature) * g).sum() / (g @ g)
    assert float(values["lambda_grad"]) == pytest.approx(expected, rel=1e-6)
    for name in ("curvature_a", "curvature_b", "curvature_c"):
        assert float(values[name]) == pytest.approx(1e8 * expected, rel=1e-6)


def test_curvature_along_no_direction_is_nan():
    now = at(np.zeros(2), np.ones(2))
    values = jax.jit(lambda now: curvatures.directional(lambda x: (x**2).sum(), now.grads, now))(
        now
    )
    assert all(np.isnan(value) for value in values.values())


def test_refuses_unknown_names():
    with pytest.raises(ValueError, match=r"lambda_grad.*curvature_d"):
        curvatures.gradient_probe(which=["curvature_d"])
    with pytest.raises(ValueError, match=r"lambda_max_adam.*\[\]"):
        curvatures.eigenvalue_probe(which=[])


@pytest.mark.parametrize("products", [-1, 0, 1])
def test_refuses_products_that_leave_no_new_direction(products):
    with pytest.raises(ValueError, match=f"products must be at least 2; it is {products}"):
        curvatures.eigenvalue_probe(products=products)


@pytest.mark.parametrize(("products", "vectors"), [(2, 1), (3, 2), (9, 2)])
def test_a_product_is_left_for_a_new_direction(products, vectors):
    probe = curvatures.eigenvalue_probe(products=products)
    assert probe.init is not None
    remembered = probe.init(jax.random.key(0), jnp.ones(5))
    assert [start.shape for start in remembered.values()] == [(vectors, 5)] * 2


@pytest.mark.parametrize(
    "probe",
    [curvatures.gradient_probe(), curvatures.eigenvalue_probe(), curvatures.threshold_probe()],
)
def test_probes_refuse_blocks_of_runs(probe):
    problem = Problem(lambda key, data, hyper: jnp.ones(3), lambda x, batch: (x**2).sum(0))
    runs = sweep.product(key=jax.random.key(0), learning_rate=[0.1, 0.2])
    layout = Layout(run_axis=-1)
    with pytest.raises(ValueError, match=r"use Layout\(run_axis=0\)"):
        list(training.train(problem, ADAM, runs, steps=1, probes=[probe], layout=layout))


@pytest.mark.parametrize("dtypes", [["bfloat16"], ["bfloat16", "float32"]])
def test_refuses_half_precision(dtypes):
    grads = [jnp.ones(2, dtype) for dtype in dtypes]
    state = optax.adam(0.1).init(grads)
    with pytest.raises(ValueError, match=f"all float32 or all float64 .* got {', '.join(dtypes)}"):
        snapshot(state, Adam(0.1), grads)


def test_a_single_parameter_has_one_eigenvalue():
    probe = curvatures.eigenvalue_probe()
    problem = Problem(lambda key, data, hyper: jnp.ones(()), lambda x, batch: 3 * x**2 / 2)
    runs = sweep.product(key=jax.random.key(0), learning_rate=[0.1])
    layout = Layout(compiler_options=QUICKLY)
    chunks = training.train(problem, ADAM, runs, steps=3, probes=[probe], layout=layout)
    results = phenodl.collect(chunks)
    np.testing.assert_allclose(results.lambda_max, 3, rtol=1e-6)


def test_the_gradient_turns_into_the_unstable_eigenvector():
    """Gradient descent beyond its threshold: after many steps the steepest direction is left."""
    curvature = np.array([1.0, 2.0, 5.0])
    theta = np.array([1.0, 1.0, 1e-3]) * (1 - 0.5 * curvature) ** 40
    now = at(curvature * theta, np.ones(3))
    vectors = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0]], np.float32)
    for which in ("lambda_max", "lambda_max_adam"):
        steepest, flattest = (float(ALIGNMENT(vector, now, which)) for vector in vectors)
        assert steepest == pytest.approx(1.0, abs=1e-6)
        assert flattest < 1e-6


def test_alignment_and_mass_of_float32_numbers_whose_squares_underflow():
    g, d = np.array([1.0, -8.0, 9.0]), np.array([4.0, 1.0, 0.25])
    vector = np.array([2.0, 1.0, 2.0]) / 3
    found = ALIGNMENT(vector.astype(np.float32), at(1e-30 * g, d), "lambda_max_adam")
    turned = np.sqrt(d) * g
    assert float(found) == pytest.approx(abs(vector @ turned) / np.linalg.norm(turned), rel=1e-6)
    tiny = {"a": np.full(3, 1e-30, np.float32), "b": np.full((2, 2), -3e-30, np.float32)}
    mass = jax.jit(curvatures.mass, static_argnames="depth")
    for depth in (1, 4):
        np.testing.assert_allclose(mass(tiny, depth=depth), [3 / 39, 36 / 39], rtol=1e-6)


def test_no_gradient_no_alignment():
    now = at(np.zeros(2), np.ones(2))
    assert np.isnan(ALIGNMENT(np.eye(2, dtype=np.float32)[0], now, "lambda_max"))
