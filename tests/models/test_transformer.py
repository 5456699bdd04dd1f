"""The transformer against one written in NumPy, its derivatives, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.compiler import QUICKLY
from phenodl.models.transformer import Sizes, Transformer, problem

SIZES = Sizes(vocabulary=11, length=6, width=8, layers=2, heads=2)
NORMS = ("pre", "post", "none")
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 11, (5, 6))
LABELS = RANDOM.integers(0, 11, (5, 1))


def drawn(norm, sizes=SIZES):
    """Parameters of one run, none of them at a special value."""
    model = problem(TOKENS, LABELS, sizes, batch_size=3, norm=norm, smoothing=0.1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.data, {})
    rng = np.random.default_rng(0)
    return model, jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0.1, 0.4, leaf.shape), leaf.dtype), shapes
    )


def quickly(function):
    return jax.jit(function, compiler_options=dict(QUICKLY))


def in_numpy(params, tokens, norm):
    """All logits of one sequence, in double precision, head by head and token by token."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)

    def dense(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def normalised(layer, x):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * layer["scale"]
            + layer["bias"]
        )

    def attention(block, x):
        query, pair = dense(block["query"], x), dense(block["key_value"], x)
        mixed = np.zeros_like(x)
        for head in range(2):
            own = slice(4 * head, 4 * head + 4)
            key, value = pair[:, :8][:, own], pair[:, 8:][:, own]
            for now in range(len(x)):
                weights = np.exp(query[now, own] @ key[: now + 1].T / 2)
                mixed[now, own] = weights @ value[: now + 1] / weights.sum()
        return dense(block["attention_out"], mixed)

    def feed_forward(block, x):
        hidden = dense(block["up"], x)
        inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
        return dense(block["down"], hidden * (1 + np.tanh(inner)) / 2)

    x = params["tokens"][tokens] + params["positions"][: len(tokens)]
    for layer in range(2):
        block = params[f"block_{layer}"]
        for part, name in ((attention, "attention_norm"), (feed_forward, "feed_forward_norm")):
            x = x + part(block, normalised(block[name], x) if norm == "pre" else x)
            x = normalised(block[name], x) if norm == "post" else x
    return dense(params["head"], normalised(params["norm"], x) if norm == "pre" else x)


@pytest.mark.parametrize("norm", NORMS)
def test_the_logits_are_those_of_a_transformer_in_numpy(norm):
    _, params = drawn(norm)
    expected = np.stack([in_numpy(params, row, norm) for row in TOKENS])
    for positions in (None, 1):
        model = Transformer(SIZES, norm, positions)
        found = quickly(model.apply)({"params": params}, TOKENS)
        wanted = expected[:, -positions:] if positions else expected
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)


def test_heads_and_hidden_units_may_have_sizes_of_their_own():
    """Given the usual ones, the parameters are the usual ones; others change the shapes."""
    given = SIZES._replace(head_size=4, hidden=32)
    shapes = {}
    for sizes in (SIZES, given, SIZES._replace(heads=3, head_size=5, hidden=7)):
        model = problem(TOKENS, LABELS, sizes, batch_size=3, dtype=jnp.bfloat16)
        params = jax.eval_shape(model.init, jax.random.key(0), model.data, {})
        shapes[sizes] = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), params)
    assert shapes[given] == shapes[SIZES]
    block = shapes[sizes]["block_1"]
    assert block["key_value"]["kernel"] == ((8, 30), "bfloat16")
    assert block["attention_out"]["kernel"] == ((15, 8), "bfloat16")
    assert block["down"]["kernel"] == ((7, 8), "bfloat16")


def test_the_loss_is_the_mean_cross_entropy_of_smoothed_labels():
    model, params = drawn("pre")
    loss = quickly(model.loss)(params, model.data)
    logits = np.stack([in_numpy(params, row, "pre")[-1] for row in TOKENS])
    targets = 0.9 * np.eye(11)[LABELS[:, 0]] + 0.1 / 11
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert float(loss) == pytest.approx(-(targets * logs).sum(-1).mean(), rel=1e-5)


def test_parameters_start_as_the_docstring_says():
    sizes = Sizes(vocabulary=40, length=40, width=16, layers=1, heads=2)
    model = problem(TOKENS, LABELS, sizes, batch_size=3, norm="post")
    params = jax.jit(lambda key: model.init(key, model.data, {}))(jax.random.key(0))
    for name in ("tokens", "positions"):
        draws = np.asarray(params.pop(name)).ravel()
        # Of N standard normals, mean and deviation have deviations N^-1/2 and (2 N)^-1/2.
        assert abs(draws.mean()) < 4 / np.sqrt(draws.size)
        assert abs(draws.std() - 1) < 4 / np.sqrt(2 * draws.size)
    dense = {"head": params.pop("head"), **params.pop("block_0")}
    assert not params
    for layer in dense.values():
        np.testing.assert_array_equal(layer["bias"], 0)
        if "scale" in layer:
            np.testing.assert_array_equal(layer["scale"], 1)
            continue
        draws = np.abs(layer["kernel"])
        bound = len(draws) ** -0.5
        # Of N uniform draws the most extreme is about bound (1 - 1/N).
        assert bound * (1 - 10 / draws.size) < draws.max() <= bound
        assert abs(draws.mean() - bound / 2) < 4 * bound / np.sqrt(12 * draws.size)
    assert {"query", "key_value", "attention_out", "up", "down", "head"} < set(dense)


@pytest.mark.parametrize("norm", NORMS)
def test_forward_and_linearized_second_derivatives_agree_under_vmap(norm):
    model, params = drawn(norm, SIZES._replace(layers=1))
    runs = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), params)

    @quickly
    @jax.vmap
    def both(params):
        def function(params):
            return model.loss(params, model.data)

        grads, hvp = jax.linearize(jax.grad(function), params)

        def slope(params):
            return jax.jvp(function, (params,), (grads,))[1]

        products = jax.tree.map(lambda h, g: (h * g).sum(), hvp(grads), grads)
        return jax.jvp(slope, (params,), (grads,))[1], sum(jax.tree.leaves(products))

    forward, linearized = both(runs)
    assert (np.abs(forward) > 1e-3).all()
    np.testing.assert_allclose(forward, linearized, rtol=1e-3)


def test_a_batch_is_drawn_with_replacement_by_its_key():
    sequences = np.arange(10)[:, None].repeat(6, axis=1)
    model = problem(sequences, sequences[:, :1], SIZES, batch_size=10)
    draw = jax.jit(jax.vmap(lambda key: model.batch(model.data, key, jnp.zeros((), int))))
    batches = draw(jax.random.split(jax.random.key(1), 200))
    chosen = np.asarray(batches["labels"])[:, :, 0]
    np.testing.assert_array_equal(chosen, batches["sequences"][:, :, 0])
    # Each is drawn about 200 times; the standard deviation is 13.
    assert np.abs(np.bincount(chosen.ravel()) - 200).max() < 60
    assert len(np.unique(chosen[0])) < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": np.full((5, 6), 11)}, "^sequences must lie in .0, vocabulary = 11"),
        ({"sequences": np.zeros((5, 7), int)}, "^sequences must have at most length = 6 tokens"),
        ({"sequences": np.zeros((5, 6))}, "^sequences must be a matrix of integers"),
        ({"labels": np.full((5, 1), -1)}, "^labels must lie in"),
        ({"labels": np.zeros((4, 1), int)}, "^labels must have 5 rows of at most 6"),
        ({"batch_size": 6}, r"^batch_size must be in \[1, 5\]"),
        ({"sizes": SIZES._replace(heads=3)}, "^heads must divide the width 8; got 3"),
        ({"sizes": SIZES._replace(layers=0)}, "^sizes must be positive, got Sizes"),
        ({"sizes": SIZES._replace(hidden=0)}, "^sizes must be positive, got Sizes"),
        ({"smoothing": -0.1}, r"^smoothing must be in \[0, 1\), got -0.1"),
        ({"norm": "rms"}, "^norm must be one of pre, post, none"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change, message):
    given = {"sequences": TOKENS, "labels": LABELS, "sizes": SIZES, "batch_size": 2}
    with pytest.raises(ValueError, match=message) as error:
        problem(**{**given, **change})
    assert "\n" not in str(error.value)
