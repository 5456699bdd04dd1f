import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.models import deep_factorization, factorization
from phenodl.optim import flow
from phenodl.protocol import Objective, value_and_grad

SHAPES = {
    2: [(4, 3), (3, 5)],
    3: [(4, 2), (2, 6), (6, 5)],
    4: [(4, 4), (4, 2), (2, 3), (3, 5)],
}
ROWS, COLUMNS, RUNS = 4, 5, 3


@pytest.fixture
def rng(x64):
    return np.random.default_rng(0)


def draw(rng, depth, scale=1.0, runs=(RUNS,)):
    return tuple(
        jnp.asarray(scale * rng.standard_normal((*shape, *runs))) for shape in SHAPES[depth]
    )


def draw_data(rng, runs=(RUNS,)):
    shape = (ROWS, COLUMNS, *runs)
    mask = rng.random(shape) < 0.6
    target = np.where(mask, rng.standard_normal(shape), np.nan)
    return {"target": jnp.asarray(target), "mask": jnp.asarray(mask)}


def of_run(tree, number):
    return jax.tree.map(lambda leaf: leaf[..., number], tree)


@pytest.mark.parametrize("depth", [3, 4])
def test_loss_and_gradient_against_matrix_calculus(rng, depth):
    factors, data = draw(rng, depth), draw_data(rng)
    loss = deep_factorization.problem(depth).loss
    evaluate = jax.jit(lambda factors, data: value_and_grad(lambda each: loss(each, data))(factors))
    of_block = evaluate(factors, data)
    products = deep_factorization.product(factors)
    for number in range(RUNS):
        one, own = of_run((factors, data), number)
        matrices = [np.asarray(each) for each in one]
        w = np.linalg.multi_dot(matrices)
        np.testing.assert_allclose(products[..., number], w, rtol=1e-12, atol=1e-12)
        residual = np.nan_to_num(w - np.asarray(own["target"]), nan=0.0)
        for value, grads in (of_run(of_block, number), evaluate(one, own)):
            np.testing.assert_allclose(value, 0.5 * np.sum(residual**2), rtol=1e-12)
            for place in range(depth):
                before = functools.reduce(np.dot, matrices[:place], np.eye(ROWS))
                inner = np.eye(matrices[place].shape[1])
                after = functools.reduce(np.dot, matrices[place + 1 :], inner)
                expected = before.T @ residual @ after.T
                np.testing.assert_allclose(grads[place], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("entry_loss", [factorization.huber, factorization.logistic])
def test_unobserved_targets_are_not_read(rng, entry_loss):
    factors, data = draw(rng, 3), draw_data(rng)
    loss = deep_factorization.problem(3, entry_loss=entry_loss).loss
    evaluate = jax.jit(lambda data: value_and_grad(lambda each: loss(each, data))(factors))
    assert np.isnan(data["target"]).any()
    filled = data | {"target": jnp.where(data["mask"], data["target"], 7.0)}
    jax.tree.map(np.testing.assert_array_equal, evaluate(data), evaluate(filled))


def test_depth_two_is_the_two_layer_model(rng):
    data, hyper = draw_data(rng, runs=()), {"init_std": jnp.asarray(0.3)}
    for width in (None, 7):
        deep, flat = deep_factorization.problem(2, width), factorization.problem(width)
        factors = jax.jit(deep.init)(jax.random.key(3), data, hyper)
        expected = jax.jit(flat.init)(jax.random.key(3), data, hyper)
        jax.tree.map(np.testing.assert_array_equal, factors, tuple(expected))
        assert deep.loss(factors, data) == flat.loss(expected, data)

        objective = Objective(lambda _: jnp.zeros(()), deep.loss(factors, data), None)
        h = deep_factorization.safe_step(0.7)(objective, factors, hyper)
        reference = factorization.safe_step(0.7)(objective, expected, hyper)
        np.testing.assert_allclose(h, reference, rtol=1e-14)


@pytest.mark.parametrize("entry_loss", [factorization.squared_error, factorization.huber])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_safe_step_bounds_the_largest_hessian_eigenvalue(rng, depth, entry_loss):
    problem = deep_factorization.problem(depth, entry_loss=entry_loss)
    step_size = deep_factorization.safe_step(0.7)
    sizes = np.cumsum([rows * columns for rows, columns in SHAPES[depth]])

    def unflatten(flat):
        parts = jnp.split(flat, sizes[:-1].tolist())
        return tuple(part.reshape(shape) for part, shape in zip(parts, SHAPES[depth], strict=True))

    @jax.jit
    @jax.vmap
    def measure(flat, data):
        def loss(flat):
            return problem.loss(unflatten(flat), data)

        value, gradient = jax.value_and_grad(loss)(flat)
        h = step_size(Objective(loss, value, gradient), unflatten(flat), {})
        return jax.hessian(loss)(flat), h

    count = 60
    scale = np.resize([1e-3, 0.1, 0.5, 1.0, 3.0], (count, 1))
    mask = rng.random((count, ROWS, COLUMNS)) < rng.random((count, 1, 1))
    data = {"target": jnp.asarray(rng.standard_normal(mask.shape)), "mask": jnp.asarray(mask)}
    hessians, h = measure(jnp.asarray(scale * rng.standard_normal((count, sizes[-1]))), data)
    ratios = np.linalg.eigvalsh(hessians)[:, -1] * np.asarray(h) / 0.7
    assert ratios.max() <= 1 + 1e-12
    assert ratios.max() > 0.25  # of the right size, not merely safe


def test_safe_step_is_sharp_for_one_direction(x64):
    # W = a b c with scalars, fitted: the largest eigenvalue is (bc)² + (ac)² + (ab)².
    factors = tuple(jnp.full((1, 1), value) for value in (2.0, 3.0, 0.5))
    objective = Objective(lambda _: jnp.zeros(()), jnp.zeros(()), None)
    h = deep_factorization.safe_step()(objective, factors, {})
    np.testing.assert_allclose(1 / h, 1.5**2 + 1.0**2 + 6.0**2, rtol=1e-14)


def test_step_at_the_saddle_is_finite(x64):
    factors = tuple(jnp.zeros((3, 3)) for _ in range(3))
    objective = Objective(lambda _: jnp.zeros(()), jnp.ones(()), None)
    assert jnp.isfinite(deep_factorization.safe_step()(objective, factors, {}))


@pytest.mark.parametrize("entry_loss", [factorization.squared_error, factorization.logistic])
def test_flow_conserves_the_imbalances(rng, entry_loss):
    problem = deep_factorization.problem(3, entry_loss=entry_loss)
    method = flow.rk4(deep_factorization.safe_step(0.1))
    factors, data = draw(rng, 3, scale=0.5), draw_data(rng)
    data["target"] = jnp.where(data["target"] > 0, 1.0, -1.0)

    def body(factors, _):
        def loss(factors):
            return problem.loss(factors, data)

        objective = Objective(loss, *value_and_grad(loss)(factors))
        return method.step(objective, factors, (), {})[0], objective.loss

    end, losses = jax.jit(lambda start: jax.lax.scan(body, start, length=500))(factors)
    assert np.all(losses[-1] < 0.7 * losses[0])
    for before, after in zip(
        deep_factorization.imbalances(factors), deep_factorization.imbalances(end), strict=True
    ):
        np.testing.assert_allclose(after, before, atol=1e-8)


def test_imbalances_against_numpy(rng):
    factors = draw(rng, 3)
    first, second = (np.asarray(each)[..., 1] for each in factors[:2])
    imbalance = deep_factorization.imbalances(factors)[0]
    expected = first.T @ first - second @ second.T
    np.testing.assert_allclose(imbalance[..., 1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_gaussian_start(x64, dtype):
    data = {"target": jnp.zeros((40, 30), dtype), "mask": jnp.ones((40, 30), bool)}
    problem = deep_factorization.problem(3, (50, 20))
    init = jax.jit(problem.init)
    factors = init(jax.random.key(1), data, {"init_std": jnp.asarray(1e-3, dtype)})
    assert [each.shape for each in factors] == [(40, 50), (50, 20), (20, 30)]
    assert {each.dtype for each in factors} == {jnp.dtype(dtype)}
    samples = np.concatenate([np.ravel(each) for each in factors]) / 1e-3
    assert abs(samples.mean()) < 4 / np.sqrt(samples.size)
    assert abs(np.mean(samples**2) - 1) < 4 * np.sqrt(2 / samples.size)
    first, second = np.ravel(factors[0])[:600], np.ravel(factors[2])
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(600)


def test_identity_start_is_balanced(x64):
    data = {"target": jnp.zeros((4, 4)), "mask": jnp.ones((4, 4), bool)}
    problem = deep_factorization.problem(4, start="identity")
    factors = problem.init(jax.random.key(0), data, {"init_std": jnp.asarray(0.5)})
    np.testing.assert_array_equal(deep_factorization.product(factors), 0.5**4 * np.eye(4))
    for imbalance in deep_factorization.imbalances(factors):
        np.testing.assert_array_equal(imbalance, 0)


def test_equal_arguments_give_the_same_problem():
    assert deep_factorization.problem(3, 4) is deep_factorization.problem(3, 4)
    assert deep_factorization.safe_step(0.5) is deep_factorization.safe_step(0.5)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((1,), "depth"),
        ((3, 0), "inner_width"),
        ((3, (4, 0)), "inner_width"),
        ((3, (4, 4, 4)), "inner_width"),
        ((3, None, "zero"), "start"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        deep_factorization.problem(*arguments)
    with pytest.raises(ValueError, match="factor must"):
        deep_factorization.safe_step(0.0)
