import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from phenodl import sweep, training
from phenodl.engine.step import CONVERGED
from phenodl.models import factorization
from phenodl.models.factorization import Factors
from phenodl.optim import flow
from phenodl.protocol import Layout, Objective, Problem, value_and_grad

METHODS = {"gradient descent": (flow.gradient_descent, 1), "rk4": (flow.rk4, 4)}


def integrator(method, loss):
    """A function that takes a number of steps without the engine: parameters and time reached."""

    @jax.jit
    def integrate(params, steps, hyper):
        def body(_, carry):
            params, state, time = carry
            objective = Objective(loss, *value_and_grad(loss)(params))
            params, state, info = method.step(objective, params, state, hyper)
            return params, state, time + info.dt

        carry = params, method.init(params, hyper), jnp.zeros_like(loss(params))
        params, _, time = jax.lax.fori_loop(0, steps, body, carry)
        return params, time

    return integrate


def given_step(objective, params, hyper):
    return hyper["h"]


def fitted_order(step_counts, errors):
    return -np.polyfit(np.log(step_counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", METHODS)
def test_order_on_a_linear_flow(x64, name):
    build, order = METHODS[name]
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 5))
    hessian, start = root @ root.T / 5, rng.standard_normal(5)
    exact = expm(-hessian * 1.5) @ start

    integrate = integrator(build(given_step), lambda theta: 0.5 * theta @ hessian @ theta)
    errors, counts = [], [16, 32, 64, 128]
    for count in counts:
        reached, time = integrate(jnp.asarray(start), count, {"h": jnp.asarray(1.5 / count)})
        assert float(time) == pytest.approx(1.5, rel=1e-14)
        errors.append(np.linalg.norm(reached - exact))
    assert fitted_order(counts, errors) == pytest.approx(order, abs=0.15)


def scalar_flow(a0, b0, target, time):
    """u = ab of da/dt = (m - ab) b, db/dt = (m - ab) a, in closed form when a² - b² = 0."""
    u0 = a0 * b0
    growth = np.exp(2 * target * time)
    return target * u0 * growth / (target - u0 + u0 * growth)


def test_rk4_follows_the_logistic_curve_of_a_balanced_scalar_factorization(x64):
    batch = {"target": jnp.full((1, 1), 2.0), "mask": jnp.ones((1, 1), bool)}
    rule = factorization.safe_step()
    method = flow.rk4(lambda objective, params, hyper: hyper["c"] * rule(objective, params, hyper))
    integrate = integrator(method, functools.partial(factorization.squared_loss, data=batch))
    start = Factors(jnp.full((1, 1), 1e-3), jnp.full((1, 1), 1e-3))
    errors, counts = [], [20, 40, 80, 160]
    for count in counts:
        reached, time = integrate(start, count, {"c": jnp.asarray(20 / count)})
        exact = scalar_flow(1e-3, 1e-3, 2.0, float(time))
        errors.append(abs(float(factorization.product(reached)[0, 0]) - exact) / exact)
    assert errors[0] < 0.01
    assert fitted_order(counts[1:], errors[1:]) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("name", METHODS)
def test_update_and_time_of_a_step_say_what_it_did(name):
    method = METHODS[name][0](given_step)
    params = {"weight": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.array([0.5, -0.5])}

    def loss(params):  # two runs along the last axis
        return (params["weight"] ** 4).sum(0) + params["bias"] ** 2

    objective = Objective(loss, *value_and_grad(loss)(params))
    h = jnp.array([1e-3, 2e-3])
    moved, state, info = method.step(objective, params, (), {"h": h})
    assert state == ()
    np.testing.assert_array_equal(info.dt, h)
    for name, leaf in params.items():
        np.testing.assert_allclose(moved[name], leaf + info.update[name], rtol=1e-6)
        # To first order in h, for each run with its own.
        gradient = np.asarray(objective.grads[name])
        np.testing.assert_allclose(info.update[name], -np.asarray(h) * gradient, rtol=0.25)


@pytest.fixture
def instances(x64):
    """Small completion problems far from the solution, the runs along the last axis."""
    rng = np.random.default_rng(1)
    a, b = (jnp.asarray(0.5 * rng.standard_normal(shape)) for shape in [(4, 3, 5), (3, 4, 5)])
    batch = {"target": rng.standard_normal((4, 4, 5)), "mask": rng.random((4, 4, 5)) < 0.7}
    return Factors(a, b), jax.tree.map(jnp.asarray, batch)


def balance(factors):
    a, b = np.asarray(factors.A), np.asarray(factors.B)
    return np.einsum("ikr,ilr->klr", a, a) - np.einsum("kjr,ljr->klr", b, b)


def test_conserved_matrix_drifts_with_the_order_of_the_method(instances):
    factors, batch = instances
    loss = functools.partial(factorization.squared_loss, data=batch)
    integrate = integrator(flow.rk4(given_step), loss)
    drifts, counts = [], [20, 40, 80]
    for count in counts:
        reached, _ = integrate(factors, count, {"h": jnp.full(5, 4.0 / count)})
        drifts.append(np.abs(balance(reached) - balance(factors)).max())
    assert drifts[0] > 1e-9  # above rounding, so that the order can be seen
    assert fitted_order(counts, drifts) > 3.8


def test_block_of_runs_matches_an_independent_integrator(instances):
    factors, batch = instances
    loss = functools.partial(factorization.squared_loss, data=batch)
    reached, time = integrator(flow.rk4(factorization.safe_step(0.1)), loss)(factors, 400, {})
    assert len(set(np.asarray(time).tolist())) == 5  # each run keeps its own time

    for number in range(5):
        target, mask = (np.asarray(batch[name])[..., number] for name in ("target", "mask"))

        def slope(_, flat, target=target, mask=mask):
            a, b = flat[:12].reshape(4, 3), flat[12:].reshape(3, 4)
            residual = mask * (a @ b - target)
            return -np.concatenate([np.ravel(residual @ b.T), np.ravel(a.T @ residual)])

        start = np.concatenate([np.ravel(leaf[..., number]) for leaf in factors])
        oracle = solve_ivp(
            slope, (0, float(time[number])), start, method="DOP853", rtol=1e-12, atol=1e-13
        )
        end = np.concatenate([np.ravel(leaf[..., number]) for leaf in reached])
        np.testing.assert_allclose(end, oracle.y[:, -1], rtol=0, atol=1e-8)


def test_both_layouts_of_the_engine_take_the_same_path(x64):
    rng = np.random.default_rng(2)
    target, mask = rng.standard_normal((6, 4, 4)), rng.random((6, 4, 4)) < 0.6
    runs = sweep.product(
        key=jax.random.key(0),
        fold_in=("instance",),
        instance={"target": target, "mask": mask},
        init_std=0.1,
    )
    ends = []
    for layout in (Layout(run_axis=0, width=4), Layout(run_axis=-1, width=4)):
        chunks = training.train(
            factorization.problem(),
            flow.rk4(factorization.safe_step()),
            runs,
            steps=200,
            chunk=50,
            stop=lambda view: (
                factorization.mean_loss(view.objective.loss, view.batch["mask"]) <= 1e-10
            ),
            layout=layout,
        )
        *_, last = chunks
        ends.append(last.state())
    first, second = ends
    assert (first.status == CONVERGED).any()
    np.testing.assert_array_equal(first.stopped_at, second.stopped_at)
    np.testing.assert_allclose(first.time, second.time, rtol=1e-10)
    for leaf, other in zip(first.params, second.params, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-9, atol=1e-9)


def bold_path(loss, start, steps, **factors):
    """Points, losses and times of the bold driver at its accepted and rejected steps."""
    method = flow.bold_driver(**factors)

    def body(carry, _):
        params, state, time = carry
        objective = Objective(loss, *value_and_grad(loss)(params))
        moved, state, info = method.step(objective, params, state, {})
        return (moved, state, time + info.dt), (params, objective.loss, info, state)

    @jax.jit
    def path(params):
        return jax.lax.scan(body, (params, method.init(params, {}), 0.0), length=steps)

    return path(start)


def test_bold_driver_steps_as_its_definition_says(x64):
    curvature = np.array([1.0, 40.0])
    (_, counts, _), (points, losses, info, _) = bold_path(
        lambda theta: 0.5 * theta @ (jnp.asarray(curvature) * theta),
        jnp.array([1.0, -2.0]),
        200,
        initial_step=0.2,
        grow=1.1,
        shrink=0.4,
    )
    theta, h, rejected = np.array([1.0, -2.0]), 0.2, 0
    for point, loss, dt in zip(points, losses, info.dt, strict=True):
        np.testing.assert_allclose(point, theta, rtol=1e-9)
        before = 0.5 * theta @ (curvature * theta)
        assert float(loss) == pytest.approx(before, rel=1e-9)
        proposal = theta - h * curvature * theta
        if 0.5 * proposal @ (curvature * proposal) <= before:
            assert float(dt) == pytest.approx(h, rel=1e-9)
            theta, h = proposal, 1.1 * h
        else:
            assert float(dt) == 0
            h, rejected = 0.4 * h, rejected + 1
    assert int(counts.rejected) == rejected > 5
    assert int(counts.accepted) == 200 - rejected


def test_bold_driver_never_raises_the_loss_and_survives_a_step_that_is_not_finite(x64):
    def rosenbrock(theta):
        return (1 - theta[0]) ** 2 + 100 * (theta[1] - theta[0] ** 2) ** 2

    start = jnp.array([-1.2, 1.0])
    _, (_, losses, info, counts) = bold_path(rosenbrock, start, 20_000, initial_step=1e200)
    assert np.isfinite(losses).all()
    assert np.all(np.diff(losses) <= 1e-15)
    assert float(losses[-1]) < 1e-4
    stayed = np.diff(np.asarray(counts.rejected), prepend=0) == 1
    np.testing.assert_array_equal(np.asarray(info.dt) == 0, stayed)
    np.testing.assert_array_equal(np.asarray(info.update)[stayed], 0)


def test_bold_driver_tends_to_the_flow_as_its_steps_shrink(x64):
    rng = np.random.default_rng(3)
    root = rng.standard_normal((4, 4))
    hessian, start = root @ root.T / 4, rng.standard_normal(4)
    errors, counts = [], [50, 100, 200, 400]
    for count in counts:
        grow = np.exp(1 / count)  # the step grows e-fold along the path, whatever its length
        first = 1.5 * (grow - 1) / (np.e - 1)
        carry, _ = bold_path(
            lambda theta: 0.5 * theta @ hessian @ theta,
            jnp.asarray(start),
            count,
            initial_step=first,
            grow=grow,
        )
        assert float(carry[2]) == pytest.approx(1.5, rel=1e-12)
        errors.append(np.linalg.norm(carry[0] - expm(-hessian * 1.5) @ start))
    assert fitted_order(counts, errors) == pytest.approx(1, abs=0.1)


def test_bold_driver_in_both_layouts_of_the_engine(x64):
    """Each run of a block keeps its own step: quadratics of curvatures a thousandfold apart."""
    instance = {"curvature": np.array([1.0, 30.0, 1000.0])}
    runs = sweep.product(key=jax.random.key(0), instance=instance)
    problem = Problem(
        init=lambda key, data, hyper: jnp.ones(()),
        loss=lambda theta, batch: 0.5 * batch["curvature"] * theta**2,
    )
    method = flow.bold_driver(1e-4)
    ends = []
    for layout in (Layout(run_axis=0, width=2), Layout(run_axis=-1, width=2)):
        *_, last = training.train(problem, method, runs, steps=120, chunk=60, layout=layout)
        ends.append(last.state())
    first, second = ends
    assert len(set(np.asarray(first.method.accepted).tolist())) > 1
    for leaf, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(np.ravel(leaf), np.ravel(other), rtol=1e-9)


@pytest.mark.parametrize(
    "factors",
    [
        {"initial_step": 0.0},
        {"initial_step": float("inf")},
        {"grow": 0.99},
        {"shrink": 1.0},
        {"shrink": float("nan")},
    ],
)
def test_bold_driver_names_a_bad_argument(factors):
    (name,) = factors
    with pytest.raises(ValueError, match=f"^{name} must be"):
        flow.bold_driver(**({"initial_step": 0.1} | factors))
