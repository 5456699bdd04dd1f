"""Predictors against dense algebra, closed forms, and the views of Adam's state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import phenodl
from phenodl import sweep, training
from phenodl.optim import adam
from phenodl.protocol import Probe, Problem
from phenodl.spikes import control, curvatures, predict
from phenodl.spikes.predict import Observation
from phenodl.spikes.snapshots import Snapshot

LEARNING_RATE, B2 = 0.05, 0.9
SCALES = np.array([1.0, 4.0, 30.0])
MEANS = ("rayleigh", "norm", "stretch")


def observation(params, grads, diagonal, last=None, function=jnp.sum):
    one = jnp.ones((), grads.dtype)
    last = predict.before_the_first_step(params) if last is None else last
    now = Snapshot(grads, grads, diagonal, one, one)
    return Observation(params, function(params), function, now, last)


@pytest.mark.parametrize("definite", [True, False])
def test_secant_means_are_moments_of_the_dense_spectrum(x64, definite):
    random = np.random.default_rng(3)
    square = random.standard_normal((6, 6))
    hessian = square @ square.T if definite else square + square.T
    diagonal, step = random.uniform(0.1, 10, 6), random.standard_normal(6)
    values, vectors = np.linalg.eigh(np.sqrt(diagonal[:, None] * diagonal) * hessian)
    weights = (vectors.T @ (step / np.sqrt(diagonal))) ** 2
    zeroth, first, second = (weights @ values**power for power in (0, 1, 2))
    expected = {"rayleigh": first / zeroth, "norm": np.sqrt(second / zeroth)}
    expected["stretch"] = second / first
    arrays = [jnp.asarray(each) for each in (step, hessian @ step, diagonal)]
    found = {mean: float(predict.secant_mean(mean, *arrays)) for mean in MEANS}
    for mean in MEANS:
        np.testing.assert_allclose(found[mean], expected[mean], rtol=1e-12)
    if definite:
        assert found["rayleigh"] <= found["norm"] <= found["stretch"] <= values[-1]


@functools.cache
def trained():
    """Signals, parameters and exact curvatures of Adam on a quadratic of three coordinates."""

    def place(state, view):
        return state, {"theta": view.params, "grads": view.objective.grads}

    predictors = {mean: predict.secant(mean) for mean in MEANS}
    predictors |= {
        "same_batch": predict.secant("norm", same_batch=True),
        "b": predict.exact("curvature_b"),
        "decoupling": predict.decoupling(),
        "reversal": predict.reversal(),
        "grad_norm": predict.above_average(decay=0.5),
    }
    with jax.enable_x64(True):
        problem = Problem(
            init=lambda key, data, hyper: jnp.array([1.0, -2.0, 0.5]),
            loss=lambda theta, scales: 0.5 * (scales * theta**2).sum(),
            batch=lambda data, key, step: data["scales"],
            data={"scales": SCALES},
        )
        chunks = training.train(
            problem,
            training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation()),
            sweep.product(key=jax.random.key(0), seed=[0], learning_rate=LEARNING_RATE, b2=B2),
            steps=40,
            probes=[
                predict.probe(predictors),
                Probe(place),
                curvatures.gradient_probe(which=["curvature_b"]),
                curvatures.threshold_probe(),
            ],
        )
        return phenodl.collect(chunks).isel(seed=0).squeeze()


def numpy_adam(grads, b1=0.9, b2=B2):
    """D, m̂ and the momentum factor after each gradient."""
    m = v = np.zeros(grads.shape[1])
    for count, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        diagonal = 1 / (np.sqrt(v / (1 - b2**count)) + 1e-8)
        yield diagonal, m / (1 - b1**count), (1 - b1) / (1 + b1) / (1 - b1**count)


def test_secants_of_a_training_are_those_of_its_record():
    runs = trained()
    theta, grads = runs.theta.values, runs.grads.values
    views = list(numpy_adam(grads))
    for t in range(1, len(theta)):
        diagonal, _, factor = views[t]
        step, change = theta[t] - theta[t - 1], grads[t] - grads[t - 1]
        inner, length, square = (
            step @ change,
            step @ (step / diagonal),
            change @ (diagonal * change),
        )
        expected = {"rayleigh": inner / length, "norm": (square / length) ** 0.5}
        expected["stretch"] = square / inner
        for mean, value in expected.items():
            ratio = factor * value * LEARNING_RATE / 2
            np.testing.assert_allclose(runs[mean].values[t], ratio, rtol=1e-10)
    assert all(np.isnan(runs[mean].values[0]) for mean in MEANS)


def test_exact_signal_is_the_curvature_in_units_of_the_threshold():
    runs = trained()
    np.testing.assert_allclose(runs.b, runs.curvature_b / runs.threshold, rtol=1e-12)


def test_a_gradient_on_the_same_batch_changes_nothing_on_the_full_batch():
    runs = trained()
    np.testing.assert_allclose(runs.same_batch, runs.norm, rtol=1e-10)


def test_rules_of_thumb_of_a_training_are_those_of_its_record():
    runs = trained()
    grads = runs.grads.values
    views = list(numpy_adam(grads))
    steps = np.array([diagonal * moment for diagonal, moment, _ in views])
    ratio = [(1 / d**2).sum() / (g**2).sum() for (d, _, _), g in zip(views, grads, strict=True)]
    np.testing.assert_allclose(runs.decoupling, ratio, rtol=1e-10)

    lengths = np.linalg.norm(steps, axis=1)
    cosine = (steps[1:] * steps[:-1]).sum(1) / lengths[1:] / lengths[:-1]
    np.testing.assert_allclose(runs.reversal[1:], -cosine, rtol=1e-9)

    norms = np.linalg.norm(grads, axis=1)
    for t in (1, 5, 39):
        weights = 0.5 ** np.arange(t, 0, -1)
        average = (weights @ norms[:t]) / weights.sum()
        np.testing.assert_allclose(runs.grad_norm[t], norms[t] / average, rtol=1e-10)
    assert np.isnan(runs.grad_norm[0])


def test_on_mini_batches_the_same_batch_removes_the_noise_between_them(x64):
    """The batches differ by a linear term, of which the Hessian knows nothing."""
    scales, slopes = jnp.asarray(SCALES), jnp.array([[5.0, -3.0, 2.0], [-4.0, 1.0, 6.0]])
    points = jnp.array([[1.0, -1.0, 0.5], [0.9, -1.1, 0.45]])
    losses = [lambda x, slope=slope: 0.5 * (scales * x**2).sum() + slope @ x for slope in slopes]
    grads = [jax.grad(loss)(point) for loss, point in zip(losses, points, strict=True)]
    diagonal = jnp.array([1.0, 0.5, 2.0])
    last = predict.Point(points[0], grads[0])
    seen = observation(points[1], grads[1], diagonal, last, losses[1])

    def signal(predictor):
        return float(predictor.update((), seen)[1])

    step = points[1] - points[0]
    curvature = float(step @ (scales * step) / (step @ (step / diagonal)))
    np.testing.assert_allclose(
        signal(predict.secant("rayleigh", same_batch=True)), curvature, 1e-12
    )
    assert abs(signal(predict.secant("rayleigh")) - curvature) > 1


def test_decoupling_takes_the_layer_that_is_farthest_apart():
    tx = optax.adam(0.1, b2=0.9, eps=0.0)
    params = {"in": jnp.ones(3), "out": jnp.ones(2)}
    state = tx.init(params)
    for scale in (1.0, 0.1):
        grads = {"in": jnp.full(3, scale), "out": jnp.full(2, scale**3)}
        with jax.numpy_dtype_promotion("standard"):
            _, state = tx.update(grads, state)
    now = curvatures.snapshot(state, adam.Adam(0.1, b2=0.9, eps=0.0), grads)
    last = predict.before_the_first_step(params)
    seen = Observation(params, jnp.ones(()), lambda params: jnp.ones(()), now, last)
    ratios = adam.gradient_ratio(state, grads, b2=0.9)
    _, signal = predict.decoupling(depth=1).update((), seen)
    np.testing.assert_allclose(signal, 1 / min(map(float, ratios.values())), rtol=1e-5)


def decoupled(grads, diagonal, depth):
    params = jax.tree.map(jnp.zeros_like, grads)
    now = Snapshot(grads, grads, diagonal, jnp.ones(()), jnp.ones(()))
    seen = Observation(params, None, None, now, predict.before_the_first_step(params))
    return float(predict.decoupling(depth=depth).update((), seen)[1])


def test_decoupling_leaves_out_layers_that_are_masked_or_have_no_gradient():
    tx = optax.masked(optax.adam(0.1), {"masked": False, "dead": True, "live": True})
    grads = {"masked": jnp.ones(2), "dead": jnp.ones(2), "live": jnp.full(3, 2.0)}
    with jax.numpy_dtype_promotion("standard"):
        _, state = tx.update(grads, tx.init(grads))
    grads["dead"] = jnp.zeros(2)
    now = curvatures.snapshot(state, adam.Adam(0.1), grads)
    diagonal = now.diagonal | {"live": jnp.full(3, 0.1)}  # sqrt(v̂) = 10, five times g
    assert not np.any(diagonal["masked"])
    np.testing.assert_allclose(decoupled(now.grads, diagonal, 1), 25, rtol=1e-6)
    # Over all parameters, the dead layer has its v̂ of 1.
    np.testing.assert_allclose(decoupled(now.grads, diagonal, None), 302 / 12, rtol=1e-6)
    nothing = jax.tree.map(jnp.zeros_like, grads)
    for depth in (None, 1):
        assert np.isnan(decoupled(nothing, diagonal, depth))
        assert np.isnan(decoupled(now.grads, nothing, depth))


def test_squares_of_small_float32_gradients_do_not_underflow():
    # Adam steps by η whatever the gradient; below ε the preconditioner is 1 / ε.
    step, hessian, diagonal = jnp.array([1e-2, 2e-2]), jnp.array([3e-19, 3e-19]), 1e8
    for mean in MEANS:
        value = predict.secant_mean(mean, step, hessian * step, jnp.full(2, diagonal))
        np.testing.assert_allclose(value, 3e-19 * diagonal, rtol=1e-6)


def test_frozen_parameters_take_no_part():
    points = [jnp.array([size, jnp.nan]) for size in (1.0, 2.0)]
    seen = observation(points[1], points[1], jnp.array([1.0, 0.0]), predict.Point(*points[:1] * 2))
    assert float(predict.secant("norm").update((), seen)[1]) == 1.0


def steady(*signals, threshold=1.0):
    """A predictor of which all is known: the signals, one after the other."""

    def update(count, seen):
        del seen
        return count + 1, jnp.asarray(signals)[count]

    return predict.Predictor(lambda params: jnp.zeros((), int), update, threshold)


def test_highest_is_the_largest_in_units_of_its_own_threshold():
    one = steady(3.0, 1.0, np.nan, np.nan, np.inf)
    other = steady(2.0, 4.0, -1.0, np.nan, 1.0, threshold=0.5)
    both = predict.highest(one, other)
    state, found = both.init(jnp.zeros(1)), []
    seen = observation(jnp.zeros(1), jnp.ones(1), jnp.ones(1))
    for _ in range(5):
        state, signal = both.update(state, seen)
        found.append(float(signal))
    np.testing.assert_array_equal(found, [4.0, 8.0, -2.0, np.nan, 2.0])


def test_what_predictors_cost_adds_up():
    sharp, free = predict.exact("curvature_b"), predict.secant("norm", same_batch=True)
    both = predict.highest(sharp, free, predict.decoupling())
    assert (both.second_derivatives, both.gradients, both.copies) == (1, 1, 2)
    assert (sharp.copies, free.copies, predict.highest(sharp).copies) == (0, 2, 0)


def test_an_average_of_a_few_steps_has_no_signal():
    predictor = predict.above_average(decay=0.5, start=3)
    state, signals = predictor.init(jnp.zeros(1)), []
    for size in (2.0, 2.0, 2.0, 6.0, 4.0):
        seen = observation(jnp.zeros(1), jnp.full(1, size), jnp.ones(1))
        state, signal = predictor.update(state, seen)
        signals.append(float(signal))
    average = (0.5 * 6 + 0.25 * 2 + 0.125 * 2 + 0.0625 * 2) / (1 - 0.5**4)
    np.testing.assert_allclose(signals, [np.nan, np.nan, np.nan, 3.0, 4 / average], rtol=1e-6)


def noise_alone(size, steps=4000, b1=0.9):
    """Gradients that are noise of a given size, the steps that Adam's momentum takes, D = 1."""
    grads = size * np.random.default_rng(2).standard_normal((steps, 50))
    moment, theta = np.zeros(50), np.zeros((steps + 1, 50))
    for t in range(steps):
        moment = b1 * moment + (1 - b1) * grads[t]
        theta[t + 1] = theta[t] - moment
    step, change = theta[1:-1] - theta[:-2], grads[1:] - grads[:-1]
    return step[100:], change[100:], (1 - b1) / (1 + b1)


def test_noise_alone_stretches_by_a_constant_below_the_threshold():
    """Step size 1, so that the bound is 2: the ratio of the means is 1 / (1 + b1) of it."""
    for size in (1.0, 30.0):
        step, change, factor = noise_alone(size)
        ratio = factor * (change**2).sum() / (step * change).sum() / 2
        np.testing.assert_allclose(ratio, 1 / 1.9, rtol=0.02)


def test_the_larger_of_secant_and_gradient_is_that_of_its_parts():
    """Small curvature at first, then a gradient that triples, on a line with Hessian 1."""
    free, stretch = predict.secant_or_gradient(1.5), predict.secant("stretch")
    places = jnp.concatenate([jnp.linspace(1.0, 0.9, 60), jnp.array([3.0])])[:, None]
    diagonal = jnp.array([0.25])
    last, state, found, parts = (
        predict.before_the_first_step(places[0]),
        free.init(places[0]),
        [],
        [],
    )
    for place in places:
        seen = observation(place, place, diagonal, last)
        state, signal = free.update(state, seen)
        found.append(float(signal))
        parts.append(float(stretch.update((), seen)[1]))
        last = predict.Point(place, place)
    np.testing.assert_allclose(found[1:50], parts[1:50])
    np.testing.assert_allclose(found[1:50], 0.25, rtol=1e-2)
    weights = 0.995 ** np.arange(59, -1, -1)
    average = weights @ np.asarray(places[:60, 0]) / weights.sum()
    np.testing.assert_allclose(found[-1], 3.0 / average / 1.5, rtol=1e-5)


def test_parts_of_the_batch_average_to_the_whole(x64):
    """A quotient is linear in the Hessian, so its mean over all parts is that of the batch."""
    batch = jnp.asarray(np.random.default_rng(5).standard_normal((6, 3)))
    params, grads = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 0.2, -1.0])

    def loss(params, batch):
        return (batch @ params**2 + (batch @ params) ** 3).mean()

    seen = observation(params, grads, jnp.array([1.0, 0.5, 2.0]))._replace(batch=batch)
    predictor = predict.exact_on_part(loss, "curvature_b", parts=3)
    state, parts = predictor.init(params), []
    for _ in range(6):
        state, signal = predictor.update(state, seen)
        parts.append(float(signal))
    assert parts[:3] == parts[3:]
    assert np.ptp(parts) > 0.1

    root = np.sqrt(np.array([1.0, 0.5, 2.0]))
    x, direction = np.asarray(batch), root * np.asarray(grads)
    hessian = np.diag(2 * x.mean(0)) + (6 * (x @ np.asarray(params)) * x.T) @ x / len(x)
    scaled = root * (hessian @ (root * direction))
    np.testing.assert_allclose(
        np.mean(parts), direction @ scaled / (direction @ direction), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("between", "sizes"),
    [("nothing", (1, np.nan, np.nan, 4, np.nan, np.nan, 7)), ("last", (1, 1, 1, 4, 4, 4, 7))],
)
def test_held_looks_at_every_few_steps(between, sizes):
    predictor = predict.held(predict.decoupling(), every=3, between=between)
    state, signals = predictor.init(jnp.zeros(1)), []
    for size in range(1, 8):
        seen = observation(jnp.zeros(1), jnp.full(1, float(size)), jnp.ones(1))
        state, signal = predictor.update(state, seen)
        signals.append(float(signal))
    np.testing.assert_allclose(signals, 1 / np.square(sizes), rtol=1e-6)


def test_held_costs_its_share_of_a_look_at_each_step():
    both = predict.highest(predict.exact("curvature_b"), predict.secant(same_batch=True))
    rare = predict.held(both, every=4)
    assert (rare.second_derivatives, rare.gradients, rare.copies) == (0.25, 0.25, 2)


def test_a_controller_acts_once_on_each_look():
    """Every look alarms at twice the margin: v is raised by 4 then, and not until the next."""
    predictor = predict.held(steady(2.0, 2.0), every=3)
    tx = control.guarded(
        optax.adam(0.1, b2=0.9), control.raise_all(margin=1.0), predictor, learning_rate=0.1, b2=0.9
    )
    grads, params = jnp.array([1.0, -2.0]), jnp.zeros(2)
    state, expected = tx.init(params), np.zeros(2)
    with jax.numpy_dtype_promotion("standard"):
        update = jax.jit(tx.update)
        for step in range(5):
            _, state = update(grads, state, params)
            expected = 0.9 * expected + 0.1 * np.square(grads)
            expected = 4 * expected if step % 3 == 0 else expected
            np.testing.assert_allclose(
                adam.adam_state(state.optimizer).nu, expected, rtol=1e-5, err_msg=str(step)
            )
    assert int(state.corrected) == 2


def test_what_cannot_be_predicted_with_is_refused():
    with pytest.raises(ValueError, match="mean must be one of rayleigh, norm, stretch; got 'max'"):
        predict.secant("max")
    with pytest.raises(ValueError, match="which must be one of lambda_grad"):
        predict.exact("lambda_max")
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1"):
        predict.above_average(decay=1)
    with pytest.raises(ValueError, match="every must be 1 for free"):
        predict.probe({"free": predict.secant()}, every=5)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        predict.held(predict.reversal(), 0)
    with pytest.raises(ValueError, match="between must be one of nothing, last; got 'zero'"):
        predict.held(predict.reversal(), 2, between="zero")
    with pytest.raises(ValueError, match="start must be at least 1, got 0"):
        predict.above_average(start=0)
    with pytest.raises(ValueError, match="predictors must not be empty"):
        predict.highest()
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        predict.exact_on_part(jnp.vdot, parts=0)
    seen = observation(jnp.ones(2), jnp.ones(2), jnp.ones(2))
    with pytest.raises(ValueError, match="parts the batch, which is not known here"):
        predict.exact_on_part(jnp.vdot).update(jnp.zeros((), int), seen)
