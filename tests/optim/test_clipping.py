"""StableAdamW and SPAM, against NumPy in double precision and against optax's Adam."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from phenodl.optim import adam, clipping

ETA, B1, B2, EPS = 0.03, 0.8, 0.97, 1e-6
SETTINGS: dict[str, Any] = {"b1": B1, "b2": B2, "eps": EPS}
STEPS = 60
SHAPES = {"a": (2, 3), "b": (4,)}


@pytest.fixture(scope="module")
def gradients():
    """Of two tensors: heavy tails in the first, a burst of one coordinate in the second."""
    draws = np.random.default_rng(0)
    heavy = draws.standard_t(2, (STEPS, *SHAPES["a"]))
    calm = draws.normal(size=(STEPS, *SHAPES["b"]))
    calm[30, 1] = 50.0
    return {"a": heavy, "b": calm}


def path(optimizer, gradients, dtype: Any = float):
    """Positions along given gradients, whatever the positions."""

    @jax.jit
    def run(gradients):
        start = {name: jnp.ones(g.shape[1:], g.dtype) for name, g in gradients.items()}

        def step(carry, grads):
            params, state = carry
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        with jax.numpy_dtype_promotion("standard"):
            return jax.lax.scan(step, (start, optimizer.init(start)), gradients)[1]

    return run({name: jnp.asarray(values, dtype) for name, values in gradients.items()})


def numpy_stable_adamw(gradients, threshold, decay):
    theta, m, v = np.ones(gradients.shape[1:]), 0.0, 0.0
    positions, largest = [], 0.0
    for t, g in enumerate(gradients, start=1):
        # Decays that correct for bias by themselves, as in the paper's Algorithm 2.
        first, second = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in (B1, B2))
        m, v = first * m + (1 - first) * g, second * v + (1 - second) * g**2
        rms = math.sqrt(np.mean(g**2 / np.maximum(v, EPS**2)))
        eta = ETA / max(1, rms / threshold)
        theta = theta - eta * decay * theta - eta * m / (np.sqrt(v) + EPS)
        positions.append(theta)
        largest = max(largest, rms)
    return np.array(positions), largest


def numpy_spam(gradients, threshold, every, warmup):
    theta, positions, clipped = np.ones(gradients.shape[1:]), [], 0
    for t, g in enumerate(gradients):
        age = t % every
        if age == 0:
            m, v = np.zeros_like(g), np.zeros_like(g)
        else:
            most = threshold * v / (1 - B2**age)
            spike = (v > 0) & (g**2 > most)  # without a second moment yet there is no measure
            clipped += spike.sum()
            g = np.where(spike, np.sign(g) * np.sqrt(most), g)
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
        fraction = min(age / warmup, 1) if t >= every else 1
        share = 1 - 0.99 * (1 + math.cos(math.pi * fraction)) / 2
        corrected = m / (1 - B1 ** (age + 1)), v / (1 - B2 ** (age + 1))
        theta = theta - ETA * share * corrected[0] / (np.sqrt(corrected[1]) + EPS)
        positions.append(theta)
    return np.array(positions), clipped


@pytest.mark.parametrize(("threshold", "decay"), [(1.0, 0.0), (1.4, 0.2)])
def test_stable_adamw_is_that_of_numpy(x64, gradients, threshold, decay):
    optimizer = clipping.stable_adamw(ETA, threshold=threshold, weight_decay=decay, **SETTINGS)
    positions = path(optimizer, gradients)
    for name, values in gradients.items():
        expected, largest = numpy_stable_adamw(values, threshold, decay)
        assert largest > threshold  # there was something to clip
        np.testing.assert_allclose(positions[name], expected, rtol=1e-11)


def test_a_burst_in_one_tensor_leaves_the_other_its_step(x64, gradients):
    calm = {"a": 0 * gradients["a"] + 1, "b": gradients["b"]}
    clipped = path(clipping.stable_adamw(ETA, **SETTINGS), calm)
    plain = path(optax.adam(ETA, **SETTINGS), calm)
    np.testing.assert_allclose(clipped["a"], plain["a"], rtol=1e-12)
    step = {name: np.abs(p["b"][30] - p["b"][29]) for name, p in (("c", clipped), ("p", plain))}
    assert (step["c"] < 0.5 * step["p"]).all()  # RMS above 2, of all coordinates of the tensor


@pytest.mark.parametrize(("threshold", "every", "warmup"), [(4.0, 25, 10), (9.0, 20, 30)])
def test_spam_is_that_of_numpy(x64, gradients, threshold, every, warmup):
    optimizer = clipping.spam(
        ETA, threshold=threshold, reset_every=every, warmup=warmup, **SETTINGS
    )
    positions = path(optimizer, gradients)
    for name, values in gradients.items():
        expected, clipped = numpy_spam(values, threshold, every, warmup)
        assert clipped > 0
        np.testing.assert_allclose(positions[name], expected, rtol=1e-11)


def test_spam_does_not_clip_what_was_zero_so_far(x64, gradients):
    """An embedding used late and seldom, and one that is not used after the first reset."""
    sparse = {name: values.copy() for name, values in gradients.items()}
    sparse["a"][:7, 0] = 0.0
    sparse["a"][::3, 1] = 0.0
    sparse["b"][20:33, 2] = 0.0
    optimizer = clipping.spam(ETA, threshold=4.0, reset_every=20, warmup=10, **SETTINGS)
    positions = path(optimizer, sparse)
    for name, values in sparse.items():
        expected, clipped = numpy_spam(values, 4.0, 20, 10)
        assert clipped > 0
        np.testing.assert_allclose(positions[name], expected, rtol=1e-11)


def test_a_coordinate_that_wakes_up_moves_under_spam():
    awake = np.ones((300, 2))
    awake[0, 1] = 0.0
    moved = path(clipping.spam(0.1), {"a": awake}, np.float32)["a"][-1] - 1
    # 299 steps of a constant gradient, of 0.1 each but for the bias correction by the zero before.
    assert moved[0] == pytest.approx(-30.0, rel=1e-3)
    assert -33.0 < moved[1] < -29.0


@pytest.mark.parametrize(
    ("optimizer", "plain"),
    [
        (clipping.stable_adamw(ETA, threshold=math.inf, **SETTINGS), optax.adam(ETA, **SETTINGS)),
        (
            clipping.stable_adamw(ETA, threshold=math.inf, weight_decay=0.1, **SETTINGS),
            optax.adamw(ETA, weight_decay=0.1, **SETTINGS),
        ),
        (
            clipping.spam(ETA, threshold=math.inf, reset_every=math.inf, **SETTINGS),
            optax.adam(ETA, **SETTINGS),
        ),
    ],
    ids=["stable_adamw", "stable_adamw with decay", "spam"],
)
def test_without_a_threshold_it_is_optax_bit_for_bit(x64, gradients, optimizer, plain):
    few = {name: values[:4] for name, values in gradients.items()}
    # One operation at a time: compiled together, XLA may contract a product and a sum into one.
    with jax.disable_jit():
        ours, theirs = (path(each, few, np.float32) for each in (optimizer, plain))
    for name in SHAPES:
        assert ours[name].dtype == np.float32
        np.testing.assert_array_equal(ours[name], theirs[name])

    ours, theirs = (path(each, gradients) for each in (optimizer, plain))
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], theirs[name], 1e-13)


def test_spam_without_warm_up_is_adam_begun_anew(x64, gradients):
    """After a reset the steps are those of a new ``optax.adam`` on the gradients from there on."""
    every = 20
    optimizer = clipping.spam(ETA, threshold=math.inf, reset_every=every, warmup=0, **SETTINGS)
    steps = {name: np.diff(values, axis=0) for name, values in path(optimizer, gradients).items()}
    for start in (every, 2 * every):
        tail = {name: values[start : start + every] for name, values in gradients.items()}
        anew = path(optax.adam(ETA, **SETTINGS), tail)
        for name in SHAPES:
            expected = np.diff(np.concatenate([np.ones((1, *SHAPES[name])), anew[name]]), axis=0)
            np.testing.assert_allclose(steps[name][start - 1 : start - 1 + every], expected, 1e-10)


@pytest.mark.parametrize(
    ("build", "axes"),
    [
        (clipping.stable_adamw, {"threshold": [0.5, 1.0, 2.0]}),
        (clipping.spam, {"threshold": [4.0, 9.0, 9.0], "reset_every": [20.0, 7.0, math.inf]}),
    ],
    ids=["stable_adamw", "spam"],
)
def test_settings_may_be_an_axis_of_one_sweep(x64, gradients, build, axes):
    together = jax.vmap(lambda given: path(build(ETA, **SETTINGS, **given), gradients))(
        {name: jnp.asarray(values) for name, values in axes.items()}
    )
    for number in range(3):
        alone = path(
            build(ETA, **SETTINGS, **{name: values[number] for name, values in axes.items()}),
            gradients,
        )
        for name in SHAPES:
            np.testing.assert_allclose(together[name][number], alone[name], rtol=1e-12)


@pytest.mark.parametrize("build", [clipping.stable_adamw, clipping.spam])
def test_schedules_and_the_views_of_adam_work_as_with_optax(x64, gradients, build):
    optimizer = build(lambda count: ETA / (1 + count), threshold=math.inf, **SETTINGS)
    plain = optax.adam(lambda count: ETA / (1 + count), **SETTINGS)
    ours, theirs = (path(each, gradients) for each in (optimizer, plain))
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)
    state = optimizer.init({"a": jnp.ones(3)})
    assert adam.second_moment(state, b2=B2)["a"].shape == (3,)


def test_bad_settings_are_named():
    for build in (clipping.stable_adamw, clipping.spam):
        with pytest.raises(ValueError, match=r"^threshold must be positive, got 0$"):
            build(ETA, threshold=0)
    with pytest.raises(ValueError, match=r"^reset_every must be at least 1, got 0$"):
        clipping.spam(ETA, reset_every=0)
    with pytest.raises(ValueError, match=r"^warmup must be at least 0, got -1$"):
        clipping.spam(ETA, warmup=-1)
    optimizer = clipping.stable_adamw(ETA)
    with pytest.raises(ValueError, match=r"^params must be given to update"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
