"""Causal scaled dot-product attention, and the rotary embedding of positions.

Everything is written in plain operations, which can be differentiated as often as a curvature
needs: the fused attention kernels of accelerators have no second derivative.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@jax.custom_jvp
def softmax(scores: Float[Array, "*batch scores"]) -> Float[Array, "*batch scores"]:
    """The softmax over the last axis, its derivative written so that second derivatives are cheap.

    With the derivative y ⊙ t - y (y·t) the compiler sees that the two equal tangents of a quadratic
    form are one, which escapes it with that of ``jax.nn.softmax``; the form then costs a fifth less
    for a whole transformer. Both agree to rounding.

    Example:
        >>> softmax(jnp.zeros(4)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    return jax.nn.softmax(scores)


@softmax.defjvp
def _softmax_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = softmax(*primals)
    change = y * tangents[0]
    return y, change - y * change.sum(-1, keepdims=True)


def causal_attention(
    query: Float[Array, "*batch queries heads size"],
    key: Float[Array, "*batch tokens heads size"],
    value: Float[Array, "*batch tokens heads size"],
) -> Float[Array, "*batch queries heads size"]:
    """Averages of the values, by softmax(q·k / sqrt(size)) over the tokens up to the query's own.

    Vaswani et al., NeurIPS 2017 (arXiv 1706.03762), section 3.2.1, with a causal mask.

    Args:
        query: of the *last* tokens; fewer than the keys where only those are wanted.
        key: of all tokens.
        value: of all tokens.

    Raises:
        ValueError: there are more queries than keys.

    Example:
        >>> value = jnp.array([[[2.0]], [[4.0]], [[6.0]]])  # three tokens, one head of size 1
        >>> causal_attention(jnp.zeros((3, 1, 1)), value, value).ravel().tolist()
        [2.0, 3.0, 4.0]
        >>> causal_attention(jnp.zeros((1, 1, 1)), value, value).ravel().tolist()
        [4.0]
    """
    queries, tokens = query.shape[-3], key.shape[-3]
    if queries > tokens:
        raise ValueError(f"query must have at most as many tokens as key, {tokens}, got {queries}")
    scores = jnp.einsum("...qhs,...khs->...hqk", query / query.shape[-1] ** 0.5, key)
    past = np.tri(queries, tokens, tokens - queries, dtype=bool)
    scores = jnp.where(jnp.broadcast_to(past, scores.shape), scores, -jnp.inf)
    return jnp.einsum("...hqk,...khs->...qhs", softmax(scores), value)


def rotary(
    x: Float[Array, "*batch tokens heads size"], base: float = 10_000.0
) -> Float[Array, "*batch tokens heads size"]:
    """Rotates queries or keys by angles that grow with their position.

    Products of rotated queries and keys depend on the distance of the two tokens alone (Su et al.,
    arXiv 2104.09864, section 3.2). The entries i and i + size/2 form a plane, which turns by
    base^(-2i/size) from one token to the next.

    Args:
        x: queries or keys of all tokens, the first one at position 0.
        base: of the geometric series of frequencies.

    Raises:
        ValueError: the size is odd.

    Example:
        >>> turned = rotary(jnp.ones((2, 1, 2)))[1, 0]  # the second token turns by one radian
        >>> [round(float(entry), 4) for entry in turned]
        [-0.3012, 1.3818]
    """
    tokens, _, size = x.shape[-3:]
    if size % 2:
        raise ValueError(f"x must have heads of an even size, got {size}")
    angles = np.arange(tokens)[:, None] * base ** (-2 * np.arange(size // 2) / size)
    first, second = x[..., : size // 2], x[..., size // 2 :]
    cos, sin = (
        jnp.broadcast_to(jnp.asarray(wave[:, None], x.dtype), first.shape)
        for wave in (np.cos(angles), np.sin(angles))
    )
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], -1)
