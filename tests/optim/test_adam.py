import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from phenodl.optim import adam
from phenodl.optim.adam import Adam

SETTINGS = Adam(learning_rate=0.03, b1=0.8, b2=0.97, eps=1e-3)


@functools.partial(jax.jit, static_argnums=0)
def absorb(transformation, params, gradients):
    """State and last update after absorbing a stack of gradients."""

    def step(carry, grads):
        state, _ = carry
        with jax.numpy_dtype_promotion("standard"):
            update, state = transformation.update(grads, state, params)
        return (state, update), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(step, (transformation.init(params), zero), gradients)[0]


def random_gradients(steps, seed=0):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(steps, 3, 2)), "b": rng.normal(size=(steps, 2))}


def zeros_of(gradients):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:]), gradients)


def moment(gradients, decay):
    """The bias-corrected moving average as an explicit weighted sum, oldest gradient first."""
    weights = (1 - decay) * decay ** np.arange(len(gradients))[::-1]
    return np.tensordot(weights, gradients, 1) / (1 - decay ** len(gradients))


@pytest.mark.usefixtures("x64")
def test_views_equal_explicit_sums_over_the_gradients():
    gradients = random_gradients(7)
    state, update = absorb(SETTINGS.transformation(), zeros_of(gradients), gradients)
    hyper = {"b2": SETTINGS.b2, "eps": SETTINGS.eps}
    rates = adam.effective_learning_rate(state, learning_rate=SETTINGS.learning_rate, **hyper)
    for name, history in gradients.items():
        first = moment(history, SETTINGS.b1)
        diagonal = 1 / (np.sqrt(moment(history**2, SETTINGS.b2)) + SETTINGS.eps)
        pairs = [
            (adam.first_moment(state, b1=SETTINGS.b1), first),
            (adam.second_moment(state, b2=SETTINGS.b2), moment(history**2, SETTINGS.b2)),
            (adam.preconditioner(state, **hyper), diagonal),
            (rates, SETTINGS.learning_rate * diagonal),
            (update, -SETTINGS.learning_rate * diagonal * first),
        ]
        for measured, expected in pairs:
            np.testing.assert_allclose(measured[name], expected, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_momentum_factor_is_the_response_to_an_alternating_gradient():
    b1, count = 0.7, 41
    alternating = (-1.0) ** np.arange(count)
    response = moment(alternating, b1) / alternating[-1]
    factor = adam.momentum_factor(jnp.asarray(count), b1=b1)
    # The start-up term of the moving average is b1^count, which the factor leaves out.
    assert abs(response - factor) < 2 * b1**count


WRAPPED = {
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1), optax.scale(0.5)),
    "adamw": optax.adamw(optax.cosine_decay_schedule(0.1, 10)),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=0.1, b2=0.9),
    "accumulated": optax.MultiSteps(optax.adam(0.1), every_k_schedule=2).gradient_transformation(),
    "guarded": optax.apply_if_finite(optax.adam(0.1), 3),
    "flattened": optax.flatten(optax.adam(0.1)),
    "masked": optax.masked(optax.adam(0.1), {"w": True, "b": False}),
    "partition": optax.partition(
        {"adam": optax.adam(0.1), "sgd": optax.sgd(0.1)}, {"w": "adam", "b": "sgd"}
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_finds_the_adam_state_in_any_wrapping(name):
    gradients = jax.tree.map(np.float32, random_gradients(4))
    state, _ = absorb(WRAPPED[name], zeros_of(gradients), gradients)
    assert adam.adam_state(state).count == (2 if name == "accumulated" else 4)
    second = jax.tree.leaves(adam.second_moment(state, b2=0.999))
    assert all((leaf > 0).all() for leaf in second)


def test_masked_parameters_stay_masked_in_every_view():
    gradients = jax.tree.map(np.float32, random_gradients(4))
    state, _ = absorb(WRAPPED["masked"], zeros_of(gradients), gradients)
    assert isinstance(adam.preconditioner(state, b2=0.999)["b"], optax.MaskedNode)
    last = jax.tree.map(lambda leaf: leaf[-1], gradients)
    assert list(adam.gradient_ratio(state, last, b2=0.999)) == ["w"]


@pytest.mark.parametrize(
    ("transformation", "found"),
    [(optax.sgd(0.1), 0), (optax.chain(optax.adam(0.1), optax.adam(0.1)), 2)],
)
def test_refuses_a_state_without_exactly_one_adam(transformation, found):
    with pytest.raises(ValueError, match=f"exactly one .* found {found}"):
        adam.adam_state(transformation.init(jnp.zeros(2)))


def test_reads_injected_hyperparameters():
    state = WRAPPED["injected"].init(jnp.zeros(2))
    settings = adam.from_hyper(adam.injected(state))
    assert (settings.learning_rate, settings.b2, settings.b1) == pytest.approx((0.1, 0.9, 0.9))
    assert adam.injected(optax.adam(0.1).init(jnp.zeros(2))) == {}


def clipped(limit):
    adams = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    return optax.chain(optax.clip(limit), adams)


@pytest.mark.parametrize(
    "transformation",
    [
        optax.partition(
            {
                "adam": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
                "sgd": optax.inject_hyperparams(optax.sgd)(learning_rate=0.001),
            },
            {"w": "adam", "b": "sgd"},
        ),
        optax.chain(
            optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
            optax.inject_hyperparams(optax.scale_by_rss)(eps=10.0),
        ),
        optax.inject_hyperparams(clipped)(limit=1.0),
    ],
)
def test_only_what_is_injected_around_adam_is_its_own(transformation):
    found = adam.injected(transformation.init({"w": jnp.zeros(2), "b": jnp.zeros(2)}))
    assert found["learning_rate"] == pytest.approx(0.1)
    assert found["eps"] == pytest.approx(1e-8)
    assert "limit" not in found


def test_what_is_injected_beside_adam_is_not_its_own():
    beside = optax.inject_hyperparams(optax.scale_by_rss)(eps=10.0)
    state = optax.chain(beside, optax.adam(0.1)).init(jnp.zeros(2))
    assert adam.injected(state) == {}


def test_from_hyper_needs_a_learning_rate():
    with pytest.raises(ValueError, match="learning_rate"):
        adam.from_hyper({"b1": 0.5})


def test_measured_training_equals_plain_optax_bit_for_bit():
    """A jitted loop whose learning rate and β2 are traced, without and with the views."""

    def loss(theta):
        return ((theta[:1] * jnp.tanh(theta[1:]) - 0.5) ** 2).sum()

    def plain(settings):
        eta, b1, b2, eps, eps_root, _ = settings
        return optax.adam(eta, b1=b1, b2=b2, eps=eps, eps_root=eps_root)

    def measure(state, grads, settings):
        diagonal = adam.preconditioner(state, b2=settings.b2)
        return diagonal, adam.gradient_ratio(state, grads, b2=settings.b2)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def train(build, measure, settings):
        def step(carry, _):
            theta, state = carry
            grads = jax.grad(lambda theta: loss(theta["all"]))(theta)
            with jax.numpy_dtype_promotion("standard"):
                update, state = build(settings).update(grads, state, theta)
            moved = optax.apply_updates(theta, update)
            return (moved, state), (moved["all"], measure(state, grads, settings))

        theta = {"all": jnp.linspace(0.1, 1.3, 5)}
        return jax.lax.scan(step, (theta, build(settings).init(theta)), length=800)[1][0]

    settings = Adam(jnp.asarray(0.05), b2=jnp.asarray(0.99))
    expected = train(plain, lambda *_: (), settings)
    assert np.ptp(expected, axis=0).min() > 1e-3
    np.testing.assert_array_equal(train(Adam.transformation, measure, settings), expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("b1", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5, 8.0])
def test_threshold_separates_decay_from_growth_of_adamw(b1, weight_decay):
    """On a scalar quadratic with frozen preconditioner: ε dwarfs sqrt(v̂), so D = 1/ε = 1."""
    eta, count = 0.1, jnp.asarray(10**6)
    threshold = adam.stability_threshold(eta, count, weight_decay=weight_decay)
    critical = threshold / adam.momentum_factor(count, b1=b1)
    transformation = Adam(eta, b1=b1, eps=1.0, weight_decay=weight_decay).transformation()

    @jax.jit
    def train(curvature):
        def step(carry, _):
            theta, state = carry
            with jax.numpy_dtype_promotion("standard"):
                update, state = transformation.update(curvature * theta, state, theta)
            return (theta + update, state), jnp.abs(theta)

        start = jnp.asarray(1e-150)
        return jax.lax.scan(step, (start, transformation.init(start)), length=1200)[1]

    below, above = train(0.99 * critical), train(1.01 * critical)
    assert below[1000:].max() < 0.9 * below[500:700].max()
    assert above[1000:].max() > 1.1 * above[500:700].max()
    assert above.max() < 1e-6 / critical


@pytest.mark.usefixtures("x64")
def test_schedule_is_read_at_the_update_that_absorbed_the_gradient():
    gradients = random_gradients(5)
    schedule = optax.exponential_decay(0.1, transition_steps=1, decay_rate=0.5)
    settings = SETTINGS._replace(learning_rate=schedule)
    state, update = absorb(settings.transformation(), zeros_of(gradients), gradients)
    count = adam.adam_state(state).count
    assert float(adam.current_learning_rate(schedule, count)) == pytest.approx(0.1 * 0.5**4)
    assert float(adam.stability_threshold(schedule, count, weight_decay=3.0)) == pytest.approx(317)
    rates = adam.effective_learning_rate(
        state, learning_rate=schedule, b2=settings.b2, eps=settings.eps
    )
    first = adam.first_moment(state, b1=settings.b1)
    np.testing.assert_allclose(update["w"], -rates["w"] * first["w"], rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_gradient_ratio_per_layer():
    inner = random_gradients(6)
    gradients = {"params": {"first": inner, "second": {"b": inner["b"][:, :1]}}}
    state, _ = absorb(SETTINGS.transformation(), zeros_of(gradients), gradients)
    last = jax.tree.map(lambda leaf: leaf[-1], gradients)
    ratio = adam.gradient_ratio(state, last, b2=SETTINGS.b2, depth=2)
    flat = np.concatenate([inner["w"].reshape(6, -1), inner["b"]], axis=1)
    expected = (flat[-1] ** 2).sum() / moment(flat**2, SETTINGS.b2).sum()
    assert list(ratio) == ["params/first", "params/second"]
    assert float(ratio["params/first"]) == pytest.approx(expected, rel=1e-13)
    with pytest.raises(ValueError, match="depth"):
        adam.gradient_ratio(state, last, b2=SETTINGS.b2, depth=0)


def test_views_take_batched_traced_hyperparameters():
    gradients = jax.tree.map(np.float32, random_gradients(6))
    b2 = np.float32([0.5, 0.9])

    def view(b2):
        state, _ = absorb_traced(b2)
        return adam.second_moment(state, b2=b2)["b"]

    def absorb_traced(b2):
        return absorb.__wrapped__(Adam(0.1, b2=b2).transformation(), zeros_of(gradients), gradients)

    batched = jax.jit(jax.vmap(view))(b2)
    expected = [moment(gradients["b"].astype(float) ** 2, float(decay)) for decay in b2]
    np.testing.assert_allclose(batched, expected, rtol=1e-5)
