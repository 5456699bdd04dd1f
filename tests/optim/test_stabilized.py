import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.chebyshev import Chebyshev
from scipy.integrate import solve_ivp

from phenodl.models import deep_factorization
from phenodl.optim.stabilized import chebyshev, coefficients
from phenodl.protocol import Objective, value_and_grad

DAMPING = 2 / 13


def unit(value):
    return lambda objective, params, hyper: jnp.asarray(value, objective.loss.dtype)


def integrate(method, loss, params, steps):
    """The trajectory of parameters and times."""

    def body(carry, _):
        params, state, time = carry
        objective = Objective(loss, *value_and_grad(loss)(params))
        params, state, info = method.step(objective, params, state, {})
        time = time + info.dt
        return (params, state, time), (params, time)

    state = jnp.broadcast_to(method.init(params, {}), jnp.shape(loss(params)))
    start = (params, state, jnp.zeros_like(loss(params)))
    return jax.lax.scan(body, start, length=steps)[1]


def of_run(tree, number):
    return jax.tree.map(lambda leaf: leaf[..., number], tree)


def amplification(stages, z):
    """What one step does to exp(z) at h λ = -z, through the recurrence of the stages."""
    first, rows, _ = coefficients(stages)
    before, last = np.ones_like(z), 1 + first * z
    for origin, mu, nu, slope, slope_at_start in rows:
        moved = (slope * last + slope_at_start) * z
        before, last = last, origin + mu * last + nu * before + moved
    return last


@pytest.mark.parametrize("stages", [2, 5, 16, 64])
def test_stability_polynomial(stages):
    w0 = 1 + DAMPING / stages**2
    basis = Chebyshev.basis(stages)
    w1 = basis.deriv(1)(w0) / basis.deriv(2)(w0)
    b = basis.deriv(2)(w0) / basis.deriv(1)(w0) ** 2
    reach = coefficients(stages).reach
    z = np.linspace(-reach, 0, 3001)
    expected = 1 - b * basis(w0) + b * basis(w0 + w1 * z)
    np.testing.assert_allclose(amplification(stages, z), expected, atol=1e-9)
    assert np.abs(expected).max() <= 1 + 1e-12
    assert np.abs(expected[z < -10]).max(initial=0) < 0.98
    assert reach == pytest.approx(2 / 3 * (stages**2 - 1) * (1 - 2 / 15 * DAMPING), rel=0.01)
    assert abs(amplification(stages, np.array(-1.2 * reach))) > 1


@pytest.mark.parametrize("stages", [2, 16, 64])
def test_steps_are_of_second_order(stages):
    z = np.array([-1e-2, -5e-3])
    error = amplification(stages, z) - np.exp(z)
    assert error[0] / error[1] == pytest.approx(8, rel=0.02)


def test_a_stiff_quadratic_is_followed(x64):
    eigenvalues = jnp.asarray(np.geomspace(1e-3, 100, 6))
    method = chebyshev(unit(1 / 100), stages=16, tolerance=1e-5)

    def loss(theta):
        return 0.5 * jnp.sum(eigenvalues * theta**2)

    theta, time = jax.jit(lambda start: integrate(method, loss, start, steps=600))(jnp.ones(6))
    exact = np.exp(-np.outer(time, eigenvalues))
    assert np.abs(theta - exact).max() < 2e-4
    np.testing.assert_allclose(np.diff(time)[-50:], coefficients(16).reach / 100, rtol=0.2)


def test_deep_factorization_against_an_implicit_method(x64):
    rng = np.random.default_rng(5)
    shapes = [(3, 3)] * 3
    start = [0.05 * rng.standard_normal(shape) for shape in shapes]
    target = rng.standard_normal((3, 2)) @ rng.standard_normal((2, 3))
    mask = rng.permuted(np.arange(9) < 7).reshape(3, 3)
    data = {"target": jnp.asarray(target), "mask": jnp.asarray(mask)}
    problem = deep_factorization.problem(3)
    method = chebyshev(deep_factorization.safe_step(), stages=32, tolerance=1e-7)

    def loss(factors):
        return problem.loss(factors, data)

    path, time = integrate(method, loss, tuple(map(jnp.asarray, start)), steps=800)

    def slope(_, flat):
        a, b, c = flat.reshape(3, 3, 3)
        residual = mask * (a @ b @ c - target)
        grads = residual @ (b @ c).T, a.T @ residual @ c.T, (a @ b).T @ residual
        return -np.concatenate([each.ravel() for each in grads])

    flat = np.concatenate([each.ravel() for each in start])
    places = np.searchsorted(time, np.array([0.3, 0.6, 1.0]) * float(time[-1])).clip(max=799)
    times = np.asarray(time)[places]
    exact = solve_ivp(slope, (0, times[-1]), flat, "Radau", times, rtol=1e-9, atol=1e-11)
    for place, expected in zip(places, exact.y.T.reshape(-1, 3, 3, 3), strict=True):
        learned = np.linalg.multi_dot([np.asarray(factor)[place] for factor in path])
        np.testing.assert_allclose(learned, np.linalg.multi_dot(expected), atol=1e-4)
    assert np.linalg.norm(learned) > 1  # it has left the saddle


def test_a_step_with_too_large_an_error_is_not_taken(x64):
    method = chebyshev(unit(1.0), stages=4, tolerance=1e-6)

    def loss(theta):
        return 0.5 * jnp.sum(theta**2)

    theta = jnp.ones(2)
    objective = Objective(loss, *value_and_grad(loss)(theta))
    same, notches, info = method.step(objective, theta, method.init(theta, {}), {})
    np.testing.assert_array_equal(same, theta)
    np.testing.assert_array_equal(info.update, 0)
    assert float(info.dt) == 0
    assert int(notches) < 0

    infinite = Objective(lambda theta: jnp.sum(theta) / 0.0, jnp.asarray(jnp.inf), theta / 0.0)
    same, notches, _ = method.step(infinite, theta, notches, {})
    np.testing.assert_array_equal(same, theta)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_block_of_runs_is_its_runs(x64, dtype):
    rng = np.random.default_rng(1)
    method = chebyshev(deep_factorization.safe_step(), stages=8, tolerance=1e-4)
    problem = deep_factorization.problem(3)
    factors = tuple(jnp.asarray(0.3 * rng.standard_normal((3, 3, 4)), dtype) for _ in range(3))
    data = {
        "target": jnp.asarray(rng.standard_normal((3, 3, 4)), dtype),
        "mask": jnp.asarray(rng.random((3, 3, 4)) < 0.8),
    }

    @jax.jit
    def path(factors, data):
        return integrate(method, lambda each: problem.loss(each, data), factors, steps=20)

    block, times = path(factors, data)
    assert times.dtype == dtype
    for number in range(4):
        alone, time = path(*of_run((factors, data), number))
        rtol = 1e-9 if dtype == jnp.float64 else 1e-2
        np.testing.assert_allclose(times[..., number], time, rtol=rtol)
        for one, many in zip(alone, block, strict=True):
            np.testing.assert_allclose(many[..., number], one, rtol=rtol, atol=rtol)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="stages must"):
        chebyshev(unit(1.0), stages=1)
    with pytest.raises(ValueError, match="tolerance must"):
        chebyshev(unit(1.0), tolerance=0.0)
