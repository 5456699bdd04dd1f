"""The decoder against NumPy's own arithmetic, its derivatives against differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.curvature.products import bilinear_form, linearize
from phenodl.models import decoder
from phenodl.models.decoder import Decoder, RMSNorm, Sizes

SIZES = Sizes(vocabulary=11, width=12, layers=2, heads=3, hidden=10, length=6)
ONE_LAYER = SIZES._replace(layers=1)
TOKENS = np.random.default_rng(0).integers(0, 11, (5, 7))


def drawn(dtype=np.float64, sizes=SIZES, **options):
    """A problem with its parameters, made by NumPy, and a batch."""
    model = decoder.problem(TOKENS, sizes, batch_size=3, dtype=dtype, **options)
    rng = np.random.default_rng(1)
    shapes = decoder.parameter_shapes(sizes)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), shapes)
    return model, params, jnp.asarray(TOKENS[:3], jnp.int32)


def logits_by_hand(params, tokens):
    """One sequence, one token and one head at a time; positions turn complex numbers."""
    params = jax.tree.map(np.asarray, params)
    size = SIZES.width // SIZES.heads

    def norm(x, layer):
        return x / np.sqrt(np.mean(x**2) + 1e-6) * layer["scale"]

    def turned(x, position):
        half = size // 2
        angles = position * 10_000.0 ** (-2 * np.arange(half) / size)
        z = (x[:half] + 1j * x[half:]) * np.exp(1j * angles)
        return np.concatenate([z.real, z.imag])

    stream = [params["embedding"][token] for token in tokens]
    for layer in range(SIZES.layers):
        block = params[f"block_{layer}"]
        qkv = [norm(x, block["attention_norm"]) @ block["qkv"]["kernel"] for x in stream]
        qkv = np.reshape(qkv, (len(tokens), 3, SIZES.heads, size))
        after = []
        for place, x in enumerate(stream):
            heads = []
            for head in range(SIZES.heads):
                query = turned(qkv[place, 0, head], place)
                keys = [turned(qkv[past, 1, head], past) for past in range(place + 1)]
                weights = np.exp([query @ key / np.sqrt(size) for key in keys])
                heads.append(weights @ qkv[: place + 1, 2, head] / weights.sum())
            x = x + np.concatenate(heads) @ block["attention_out"]["kernel"]
            both = norm(x, block["feed_forward_norm"]) @ block["gate_up"]["kernel"]
            gate, up = both[: SIZES.hidden], both[SIZES.hidden :]
            after.append(x + (gate / (1 + np.exp(-gate)) * up) @ block["down"]["kernel"])
        stream = after
    return np.array([norm(x, params["norm"]) @ params["head"]["kernel"] for x in stream])


def test_logits_are_those_computed_by_hand(x64):
    _, params, batch = drawn()
    model = Decoder(SIZES, dtype=jnp.float64)
    logits = jax.jit(model.apply)({"params": params}, batch[:, :-1])
    expected = [logits_by_hand(params, row) for row in TOKENS[:3, :-1]]
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-10)


def test_loss_is_the_smoothed_cross_entropy_of_the_next_tokens(x64):
    model, params, batch = drawn(smoothing=0.2)
    logits = np.array([logits_by_hand(params, row) for row in TOKENS[:3, :-1]])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    labels = 0.8 * np.eye(11)[TOKENS[:3, 1:]] + 0.2 / 11
    expected = -(labels * log_p).sum(-1).mean()
    np.testing.assert_allclose(jax.jit(model.loss)(params, batch), expected, rtol=1e-12)


def test_rms_norm_gives_a_mean_square_of_one():
    x = np.random.default_rng(2).normal(size=(4, 9)).astype(np.float32) * 30
    y = np.asarray(RMSNorm().apply({"params": {"scale": jnp.ones(9)}}, jnp.asarray(x)))
    np.testing.assert_allclose((y**2).mean(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(y, x / np.sqrt((x**2).mean(-1, keepdims=True)), rtol=1e-5)


def test_logits_do_not_see_later_tokens():
    _, params, batch = drawn(np.float32)
    apply = jax.jit(Decoder(SIZES).apply)
    changed = batch.at[:, 4].set((batch[:, 4] + 1) % 11)
    before, after = (apply({"params": params}, each) for each in (batch, changed))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max(axis=-1).min() > 1e-3


def test_gradient_and_curvature_agree_with_differences(x64):
    model, params, batch = drawn(sizes=ONE_LAYER)
    rng = np.random.default_rng(3)
    tangent = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)
    loss = lambda params: model.loss(params, batch)

    @jax.jit
    def derivatives(step):
        point = jax.tree.map(lambda p, t: p + step * t, params, tangent)
        value, grads, hvp = linearize(loss, point)
        forward = bilinear_form(loss, point, tangent, tangent)
        return value, inner(grads, tangent), inner(hvp(tangent), tangent), forward

    step = 1e-5
    before, here, after = (derivatives(place) for place in (-step, 0.0, step))
    slope, curvature = ((after[i] - before[i]) / (2 * step) for i in (0, 1))
    np.testing.assert_allclose(here, [here[0], slope, curvature, curvature], rtol=1e-4)
    np.testing.assert_allclose(here[2], here[3], rtol=1e-9)


def inner(one, other):
    products = jax.tree.map(lambda a, b: (a * b).sum(), one, other)
    return sum(jax.tree.leaves(products))


def test_rematerialisation_changes_no_derivative(x64):
    def derivatives(remat):
        model, params, batch = drawn(sizes=ONE_LAYER, remat=remat)
        loss = lambda params: model.loss(params, batch)
        value, grads = jax.value_and_grad(loss)(params)
        return value, grads, bilinear_form(loss, params, grads, grads)

    plain, again = (jax.jit(functools.partial(derivatives, remat))() for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), plain, again)


def test_rematerialisation_keeps_fewer_activations():
    def kept(remat):
        model, params, batch = drawn(np.float32, remat=remat)
        _, pull_back = jax.eval_shape(lambda p: jax.vjp(lambda p: model.loss(p, batch), p), params)
        return sum(leaf.size for leaf in jax.tree.leaves(pull_back))

    assert kept(True) < kept(False) / 2


def test_runs_are_batched_without_touching_each_other():
    model, params, batch = drawn(np.float32)
    other = jax.tree.map(lambda leaf: -leaf, params)
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)
    losses = jax.jit(jax.vmap(model.loss, (0, None)))(stacked, batch)
    single = jax.jit(model.loss)
    alone = [single(each, batch) for each in (params, other)]
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert losses.dtype == jnp.float32


def test_initial_loss_is_near_that_of_guessing():
    model = decoder.problem(TOKENS, ONE_LAYER, batch_size=5)

    def start(key):
        return model.loss(model.init(key, model.data, {}), model.data["sequences"])

    loss = jax.jit(start)(jax.random.key(0))
    assert np.log(11) - 0.5 < loss < np.log(11) + 1.5


def test_batches_hold_whole_sequences():
    model = decoder.problem(TOKENS, SIZES, batch_size=4)
    draw = jax.vmap(lambda key: model.batch(model.data, key, jnp.asarray(0)))
    batches = jax.jit(lambda: draw(jax.random.split(jax.random.key(0), 20)))()
    assert batches.shape == (20, 4, 7)
    rows = {tuple(row) for row in np.asarray(batches).reshape(-1, 7)}
    assert rows == {tuple(row) for row in TOKENS}


def test_parameters_are_counted():
    leaves = jax.tree.leaves(decoder.parameter_shapes(SIZES))
    assert decoder.parameter_count(SIZES) == sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": SIZES._replace(vocabulary=9)}, r"tokens in \[0, 9\), the model's vocabulary"),
        ({"sizes": SIZES._replace(length=5)}, "at most 5 tokens to read, the model's length"),
        ({"batch_size": 6}, r"batch_size must be in \[1, 5\]"),
        ({"batch_size": 0}, "batch_size must be in"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1.0"),
        *(
            ({"sizes": SIZES._replace(**{name: size})}, "sizes must be positive, got Sizes")
            for name, size in (("layers", 0), ("hidden", -1), ("width", -12), ("heads", 0))
        ),
        ({"sizes": SIZES._replace(heads=4)}, "heads must divide the width 12 into even parts"),
        ({"sequences": TOKENS[:, :1]}, "with one token or more to read"),
        ({"sequences": TOKENS.astype(float)}, "sequences must be integers"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"sequences": TOKENS, "sizes": SIZES, "batch_size": 2} | change
    with pytest.raises(ValueError, match=message):
        decoder.problem(**given)
