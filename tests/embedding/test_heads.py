"""Heads and feed-forward units split in transformer and decoder, and what stays as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import units
from phenodl.embedding.heads import attention_heads, feed_forward_units
from phenodl.models import decoder
from phenodl.models.transformer import Sizes, Transformer

SIZES = Sizes(vocabulary=5, length=4, width=6, layers=2, heads=2, hidden=3)
TOKENS = np.random.default_rng(0).integers(0, 5, (3, 4))
ALPHA = 0.3


def transformer(sizes):
    return Transformer(sizes, dtype=jnp.float64)


def drawn(model):
    """Parameters none of which is zero."""
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape), params)


def outputs_and_gradient(model, params):
    def outputs(params):
        return model.apply({"params": params}, TOKENS)

    @jax.jit
    def both(params):
        return outputs(params), jax.grad(lambda params: jnp.sum(jnp.sin(outputs(params))))(params)

    return both(params)


def compare(narrow_model, params, wide_model, wide):
    (before, narrow), (after, split) = (
        outputs_and_gradient(narrow_model, params),
        outputs_and_gradient(wide_model, wide),
    )
    np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-13)
    return narrow["block_1"], split["block_1"]


def test_a_head_split_keeps_outputs_and_shares_the_gradient(x64):
    model, params = transformer(SIZES), drawn(transformer(SIZES))
    size = SIZES.size_of_head
    wide = units.split(params, attention_heads(params, 1, size), 0, ALPHA)
    wide = units.null(wide, attention_heads(wide, 0, size))
    wide_sizes = SIZES._replace(heads=3, head_size=size)
    narrow, split = compare(model, params, transformer(wide_sizes), wide)
    one = narrow["query"]["kernel"].reshape(6, 2, 3)[:, 0]
    three = split["query"]["kernel"].reshape(6, 3, 3)
    np.testing.assert_allclose(three[:, 0], (1 - ALPHA) * one, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(three[:, 2], ALPHA * one, rtol=1e-8, atol=1e-12)
    # Keys, then values, of all heads.
    one = narrow["key_value"]["bias"].reshape(2, 2, 3)[:, 0]
    three = split["key_value"]["bias"].reshape(2, 3, 3)
    np.testing.assert_allclose(three[:, 2], ALPHA * one, rtol=1e-8, atol=1e-12)


def test_a_feed_forward_split_keeps_outputs_and_shares_the_gradient(x64):
    model, params = transformer(SIZES), drawn(transformer(SIZES))
    wide = units.split(params, feed_forward_units(params, 1), 2, ALPHA)
    wide = units.null(wide, feed_forward_units(wide, 0))
    narrow, split = compare(model, params, transformer(SIZES._replace(hidden=4)), wide)
    one, shared = narrow["up"]["kernel"][:, 2], split["up"]["kernel"]
    np.testing.assert_allclose(shared[:, 2], (1 - ALPHA) * one, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(shared[:, 3], ALPHA * one, rtol=1e-8, atol=1e-12)


def test_a_swiglu_unit_split_keeps_outputs_and_shares_the_gradient(x64):
    sizes = decoder.Sizes(vocabulary=5, width=4, layers=2, heads=2, hidden=3, length=4)
    models = [
        decoder.Decoder(each, dtype=jnp.float64) for each in (sizes, sizes._replace(hidden=4))
    ]
    params = drawn(models[0])
    wide = units.split(params, feed_forward_units(params, 1), 1, ALPHA)
    wide = units.null(wide, feed_forward_units(wide, 0))
    narrow, split = compare(models[0], params, models[1], wide)
    one = narrow["gate_up"]["kernel"].reshape(4, 2, 3)[..., 1]
    four = split["gate_up"]["kernel"].reshape(4, 2, 4)
    np.testing.assert_allclose(four[..., 3], ALPHA * one, rtol=1e-8, atol=1e-12)


def test_the_decoders_heads_are_found():
    size = {"qkv": {"kernel": jnp.zeros((8, 24))}, "attention_out": {"kernel": jnp.zeros((8, 8))}}
    assert units.count({"block_0": size}, attention_heads({"block_0": size}, 0, 4)) == 2


def test_what_is_not_there_is_refused():
    params = {"block_0": {"query": {"kernel": jnp.zeros((4, 4))}}}
    with pytest.raises(ValueError, match=r"^block: expected a number in \[0, 1\), got 1"):
        attention_heads(params, 1, 2)
    with pytest.raises(ValueError, match=r"^params: expected those of a transformer"):
        feed_forward_units({"layer_0": {}}, 0)
    with pytest.raises(ValueError, match=r"^params: expected .* got block_1$"):
        attention_heads({"block_1": params["block_0"]}, 0, 2)
    with pytest.raises(ValueError, match=r"expected axis 1 of block_0/query/kernel to divide"):
        units.count(params, attention_heads(params, 0, 3))
