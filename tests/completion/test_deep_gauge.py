import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from phenodl.completion import deep_gauge
from phenodl.models import deep_factorization
from phenodl.optim import flow
from phenodl.protocol import Objective, value_and_grad

STEPS, STD = 400, 1e-30


@pytest.fixture
def rng(x64):
    return np.random.default_rng(0)


def imbalances(factors):
    """With the runs first. Rotations of the inner basis keep their eigenvalues."""
    return [np.moveaxis(each, -1, 0) for each in map(np.asarray, jitted_imbalances(factors))]


jitted_imbalances = jax.jit(deep_factorization.imbalances)


def test_product_and_imbalance_are_kept(rng):
    shapes = [(4, 3), (3, 5), (5, 4)]
    factors = tuple(jnp.asarray(rng.standard_normal((*shape, 6))) for shape in shapes)
    turned = jax.jit(deep_gauge.orthogonalize_pairs)(factors)
    before, after = deep_factorization.product(factors), deep_factorization.product(turned)
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)
    for old, new in zip(imbalances(factors), imbalances(turned), strict=True):
        np.testing.assert_allclose(np.linalg.eigvalsh(new), np.linalg.eigvalsh(old), atol=1e-12)
    alone = jax.jit(deep_gauge.orthogonalize_pairs)(tuple(each[..., 2] for each in factors))
    for one, many in zip(alone, turned, strict=True):
        np.testing.assert_allclose(many[..., 2], one, rtol=1e-12, atol=1e-12)


def test_inner_factors_of_balanced_products_keep_one_entry_per_row_and_column(rng):
    # Balanced: A_1 = U S Q_1ᵀ, A_2 = Q_1 S Q_2ᵀ, A_3 = Q_2 S Vᵀ.
    u, q1, q2, v = np.linalg.qr(rng.standard_normal((4, 4, 4)))[0]
    s = np.diag([3.0, 1.0, 0.2, 0.05])
    factors = tuple(map(jnp.asarray, (u @ s @ q1.T, q1 @ s @ q2.T, q2 @ s @ v.T)))
    sweep = jax.jit(deep_gauge.orthogonalize_pairs)
    for _ in range(8):
        factors = sweep(factors)
    size = np.sort(np.abs(np.asarray(factors[1])).ravel())
    np.testing.assert_allclose(size[-4:], np.sort(np.diag(s)), rtol=1e-12)
    assert size[-5] < 1e-14


def exact_flow(start, target, mask):
    """The same Runge-Kutta steps with 80 digits."""
    mpf = np.vectorize(mpmath.mpf, otypes=[object])
    factors, target = [mpf(each) for each in start], mpf(target)
    half, sixth, two_thirds = mpmath.mpf(1) / 2, mpmath.mpf(1) / 6, mpmath.mpf(2) / 3

    def slopes(a, b, c):
        residual = mask * (a @ b @ c - target)
        return [residual @ (b @ c).T, a.T @ residual @ c.T, (a @ b).T @ residual], residual

    def moved(h, direction):
        return [each - h * slope for each, slope in zip(factors, direction, strict=True)]

    def square(matrix):
        return (matrix * matrix).sum()

    for _ in range(STEPS):
        a, b, c = factors
        first, residual = slopes(a, b, c)
        curvature = square(b @ c) + square(a) * square(c) + square(a @ b)
        mixed = two_thirds * 2 * (square(a) + square(b) + square(c)) * square(residual)
        h = 1 / (curvature + mpmath.sqrt(mixed))
        second, _ = slopes(*moved(h * half, first))
        third, _ = slopes(*moved(h * half, second))
        fourth, _ = slopes(*moved(h, third))
        mean = [
            sixth * (p + 2 * q + 2 * r + s)
            for p, q, r, s in zip(first, second, third, fourth, strict=True)
        ]
        factors = moved(h, mean)
    return [mpmath.matrix(each.tolist()) for each in factors]


def test_directions_below_rounding_against_80_digits(rng):
    start = [STD * rng.standard_normal((3, 3)) for _ in range(3)]
    target = rng.standard_normal((3, 2)) @ rng.standard_normal((2, 3))
    mask = (np.arange(9) != 4).reshape(3, 3)
    problem = deep_factorization.problem(3)
    method = flow.rk4(deep_factorization.safe_step())
    data = {"target": jnp.asarray(target), "mask": jnp.asarray(mask)}

    def loss(factors):
        return problem.loss(factors, data)

    def trained(transform):
        def body(factors, step):
            objective = Objective(loss, *value_and_grad(loss)(factors))
            factors = method.step(objective, factors, (), {})[0]
            due = (step + 1) % transform.every == 0
            return jax.lax.cond(due, transform.apply, lambda same, _: same, factors, data), None

        factors = tuple(map(jnp.asarray, start))
        return jax.jit(lambda start: jax.lax.scan(body, start, jnp.arange(STEPS))[0])(factors)

    with mpmath.workdps(80):
        exact = exact_flow(start, target, mask.astype(int))
        product = np.array((exact[0] * exact[1] * exact[2]).tolist(), float)
    expected = singular_values(exact[0])
    assert expected[0] > 0.1
    assert expected[1] < 1e-25

    with_gauge = trained(deep_gauge.graded(8))
    np.testing.assert_allclose(deep_factorization.product(with_gauge), product, atol=1e-12)
    np.testing.assert_allclose(singular_values(with_gauge[0]), expected, rtol=1e-6)
    never = deep_gauge.graded(10 * STEPS)
    assert singular_values(trained(never)[0])[1] > 1e-20


def singular_values(matrix):
    """Of a matrix as it is stored, with 80 digits: small ones next to large ones."""
    with mpmath.workdps(80):
        exact = mpmath.matrix(getattr(matrix, "tolist", lambda: matrix)())
        return [float(value) for value in mpmath.svd_r(exact, compute_uv=False)]
