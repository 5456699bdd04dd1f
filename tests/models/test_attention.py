"""Attention against loops in NumPy, its symmetries, and its second derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.models.attention import causal_attention, rotary, softmax


def draws(shape, number=3):
    return np.random.default_rng(0).normal(size=(number, *shape))


def by_loops(query, key, value):
    """One sequence, (tokens, heads, size): what each token sees, head by head."""
    tokens, heads, size = query.shape
    out = np.zeros_like(query)
    for head in range(heads):
        for now in range(tokens):
            scores = [query[now, head] @ key[past, head] / size**0.5 for past in range(now + 1)]
            weights = np.exp(scores) / np.exp(scores).sum()
            out[now, head] = sum(w * value[past, head] for past, w in enumerate(weights))
    return out


@pytest.mark.usefixtures("x64")
def test_attention_agrees_with_loops():
    query, key, value = draws((2, 5, 3, 4))
    found = jax.jit(causal_attention)(query, key, value)
    expected = np.stack([by_loops(*one) for one in zip(query, key, value, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_softmax_has_the_derivatives_of_jax_s_own():
    (scores,) = draws((6,), 1)

    def both(function):
        return jax.jit(lambda x: (jax.jacobian(function)(x), jax.hessian(function)(x)))(scores)

    for ours, theirs in zip(both(softmax), both(jax.nn.softmax), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_the_last_queries_alone_see_what_they_see_among_all():
    query, key, value = jnp.asarray(draws((6, 2, 4)), jnp.float32)
    whole = jax.jit(causal_attention)(query, key, value)
    last = jax.jit(causal_attention)(query[-2:], key, value)
    np.testing.assert_allclose(last, whole[-2:], rtol=1e-5, atol=1e-6)


def test_more_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match=r"^query must have at most as many tokens as key, 2"):
        causal_attention(jnp.ones((3, 1, 2)), jnp.ones((2, 1, 2)), jnp.ones((2, 1, 2)))


@pytest.mark.usefixtures("x64")
def test_rotation_is_multiplication_by_a_complex_phase():
    (x,) = draws((7, 2, 6), 1)
    waves = x[..., :3] + 1j * x[..., 3:]
    angles = np.arange(7)[:, None, None] * 100.0 ** (-np.arange(3) / 3)
    expected = waves * np.exp(1j * angles)
    found = np.asarray(jax.jit(rotary, static_argnames="base")(x, base=100.0))
    np.testing.assert_allclose(found[..., :3] + 1j * found[..., 3:], expected, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_products_of_rotated_tokens_depend_on_their_distance_alone():
    query, key = draws((1, 4), 2)
    same = [np.broadcast_to(one, (9, 1, 4)) for one in (query, key)]
    turned_query, turned_key = jax.jit(jax.vmap(rotary))(np.stack(same))
    products = np.einsum("qhs,khs->qk", turned_query, turned_key)
    for distance in range(-8, 9):
        assert np.ptp(np.diagonal(products, distance)) < 1e-13


def test_heads_of_an_odd_size_are_refused():
    with pytest.raises(ValueError, match="even size, got 3"):
        rotary(jnp.ones((2, 1, 3)))


@pytest.mark.usefixtures("x64")
def test_the_second_derivative_agrees_with_finite_differences():
    query, key, value = jnp.asarray(draws((5, 2, 4)))

    def function(x):
        return jnp.sin(causal_attention(rotary(x), key, value)).sum()

    def along(step):
        return function(query + step * value)

    nested = jax.jit(lambda t: jax.jvp(lambda s: jax.jvp(along, (s,), (1.0,))[1], (t,), (1.0,))[1])
    slope, small = jax.jit(jax.grad(along)), 1e-5
    expected = (slope(small) - slope(-small)) / (2 * small)
    np.testing.assert_allclose(nested(0.0), expected, rtol=1e-7)
