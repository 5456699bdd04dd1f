import jax
import jax.numpy as jnp
import numpy as np
import scipy

from phenodl.optim import newton
from phenodl.protocol import Objective


def iterate(loss, start, steps, descent_steps):
    method = newton.critical_point()

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        hyper = {"descent_steps": jnp.asarray(descent_steps)}
        params, state, info = method.step(Objective(loss, value, grads), params, state, hyper)
        return (params, state), (value, jnp.linalg.norm(grads), info.update)

    (params, _), history = jax.jit(
        lambda start: jax.lax.scan(step, (start, method.init(start, {})), length=steps)
    )(start)
    return params, history


def test_descent_finds_the_minimum_that_scipy_finds(x64):
    start = jnp.array([-1.2, 1.0])
    params, (losses, *_) = iterate(rosenbrock, start, 60, jnp.inf)
    rosen, slope = scipy.optimize.rosen, scipy.optimize.rosen_der
    expected = scipy.optimize.minimize(rosen, np.asarray(start), jac=slope, tol=1e-12).x
    np.testing.assert_allclose(params, expected, atol=1e-6)
    assert (np.diff(losses) <= 0).all()


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_descent_leaves_a_saddle_to_which_the_gradient_alone_leads(x64):
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    start = jnp.array([0.5, 0.1])
    minimum, _ = iterate(saddle, start, 20, jnp.inf)
    np.testing.assert_allclose(jnp.abs(minimum), [0, np.sqrt(0.5)], atol=1e-9)
    caught, (_, grad_norms, _) = iterate(saddle, start, 20, 0.0)
    np.testing.assert_allclose(caught, 0, atol=1e-14)
    assert (np.diff(grad_norms) <= 0).all()


def test_on_a_quadratic_one_step_suffices_flat_directions_or_not(x64):
    # The step of least norm, as the pseudo-inverse gives it, for any signs of the eigenvalues.
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    matrix = basis @ np.diag([-2.0, -0.3, 0.0, 1.0, 4.0]) @ basis.T
    start = np.random.default_rng(1).standard_normal(5)
    hessian = jnp.asarray(matrix)
    step = jax.jit(lambda x: newton.newton_step(lambda x: x @ hessian @ x / 2, x))(start)
    expected = -np.linalg.pinv(matrix, rcond=1e-10) @ matrix @ start
    np.testing.assert_allclose(step, expected, atol=1e-8)


def test_at_a_critical_point_of_a_constant_nothing_moves():
    step = jax.jit(lambda x: newton.newton_step(lambda x: jnp.sum(0 * x["a"]), x))(
        {"a": jnp.ones(3)}
    )
    assert step["a"].tolist() == [0, 0, 0]
