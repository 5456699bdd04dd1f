"""A language model in the manner of LLaMA: pre-norm blocks, RMSNorm, SwiGLU, rotary positions.

Touvron et al. (arXiv 2302.13971), section 2.2; no layer has a bias. Queries, keys and values come
of one matrix, and so do gate and value of the feed-forward layer: fewer, larger products. All
operations are plain ones, which can be differentiated as often as a curvature needs.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from phenodl.models.attention import causal_attention, rotary
from phenodl.models.checks import require_batch_size, require_model
from phenodl.models.losses import smoothed_cross_entropy
from phenodl.protocol import Data, Hyper, Params, Problem

_EPS = 1e-6  # added to the mean square inside RMSNorm


class Sizes(NamedTuple):
    """The sizes of a decoder.

    Attributes:
        vocabulary: number of different tokens.
        width: of the residual stream.
        layers: number of blocks.
        heads: of the attention; each has width / heads entries, an even number.
        hidden: width of the feed-forward layer; about 8/3 of ``width`` in LLaMA.
        length: of the longest sequence.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    length: int


def parameter_count(sizes: Sizes) -> int:
    """How many numbers a decoder trains; the embedding and the output layer do not share theirs.

    Example:
        >>> parameter_count(Sizes(107, width=64, layers=2, heads=4, hidden=128, length=64))
        95936
    """
    block = (4 * sizes.width + 3 * sizes.hidden + 2) * sizes.width
    return sizes.layers * block + (2 * sizes.vocabulary + 1) * sizes.width


def parameter_shapes(sizes: Sizes, dtype: jnp.dtype | type = jnp.float32) -> Params:
    """The parameters' shapes and dtypes, without the memory that they take.

    Example:
        >>> shapes = parameter_shapes(Sizes(5, width=8, layers=1, heads=2, hidden=16, length=4))
        >>> shapes["block_0"]["qkv"]["kernel"].shape, sorted(shapes)
        ((8, 24), ['block_0', 'embedding', 'head', 'norm'])
    """
    token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return jax.eval_shape(Decoder(sizes, dtype=dtype).init, jax.random.key(0), token)["params"]


def problem(
    sequences: ArrayLike,
    sizes: Sizes,
    *,
    batch_size: int,
    smoothing: float = 0.0,
    remat: bool = False,
    dtype: jnp.dtype | type = jnp.float32,
) -> Problem:
    """Predict the next token of fixed sequences, on random batches of them.

    Args:
        sequences: (n, tokens + 1), integers in [0, vocabulary): what is read and what follows.
        sizes: of the decoder.
        batch_size: sequences per step, drawn with replacement.
        smoothing: of the labels, in [0, 1).
        remat: keep only the stream between blocks for the backward pass and compute the rest again:
            less memory for about a third more work.
        dtype: of parameters and activations.

    Returns:
        The problem. Its data hold ``sequences``, a batch is (batch_size, tokens + 1), and the
        parameters are a dictionary of layers: ``embedding``, ``block_0``, ..., ``norm``, ``head``.

    Raises:
        ValueError: a token is not in the vocabulary, a sequence is longer than the model's, the
            batch is larger than the number of sequences, a size is below 1, the heads do not divide
            the width into even parts, or ``smoothing`` is not in [0, 1).

    Example:
        >>> sizes = Sizes(vocabulary=5, width=8, layers=1, heads=2, hidden=16, length=4)
        >>> model = problem(np.arange(15).reshape(3, 5) % 5, sizes, batch_size=2)
        >>> params = jax.jit(model.init)(jax.random.key(0), model.data, {})
        >>> batch = model.batch(model.data, jax.random.key(1), 0)
        >>> batch.shape, jax.jit(model.loss)(params, batch).shape
        ((2, 5), ())
    """
    tokens = np.asarray(sequences)
    _check(tokens, sizes, batch_size, smoothing)
    model = Decoder(sizes, remat=remat, dtype=dtype)

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del hyper
        return model.init(key, data["sequences"][:1, :-1])["params"]

    def loss(params: Params, batch: Int[Array, "batch tokens_1"]) -> Float[Array, ""]:
        logits = model.apply({"params": params}, batch[:, :-1])
        assert isinstance(logits, jax.Array)
        return smoothed_cross_entropy(logits, batch[:, 1:], smoothing).mean()

    def batch(
        data: Data, key: Key[Array, ""], step: Int[Array, ""]
    ) -> Int[Array, "batch tokens_1"]:
        del step
        rows = jax.random.randint(key, (batch_size,), 0, len(data["sequences"]))
        return data["sequences"][rows]

    return Problem(init, loss, batch, {"sequences": jnp.asarray(tokens, jnp.int32)})


def _check(sequences: np.ndarray, sizes: Sizes, batch_size: int, smoothing: float) -> None:
    require_model(sizes, smoothing)
    if sequences.ndim != 2 or sequences.shape[1] < 2 or sequences.dtype.kind not in "iu":
        raise ValueError(
            "sequences must be integers, (n, tokens + 1), with one token or more to read; got "
            f"{sequences.dtype.name}{list(sequences.shape)}"
        )
    require_batch_size(batch_size, len(sequences))
    length = sequences.shape[1] - 1
    if sequences.min() < 0 or sequences.max() >= sizes.vocabulary:
        raise ValueError(
            f"sequences must hold tokens in [0, {sizes.vocabulary}), the model's vocabulary; got "
            f"{sequences.min()} to {sequences.max()}"
        )
    if length > sizes.length:
        raise ValueError(
            f"sequences must have at most {sizes.length} tokens to read, the model's length; got"
            f" {length}"
        )
    if sizes.width % (2 * sizes.heads):
        raise ValueError(
            f"heads must divide the width {sizes.width} into even parts; got {sizes.heads}"
        )


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + 1e-6), times a learned scale (Zhang and Sennrich, arXiv 1910.07467)."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Normalises along the last axis."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], x.dtype)
        shrink = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + _EPS)
        return x * shrink * jnp.broadcast_to(scale, x.shape)


class Block(nn.Module):
    """Attention and a feed-forward layer, each of the normalised stream, each added to it."""

    sizes: Sizes

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch tokens width"]
    ) -> Float[Array, "*batch tokens width"]:
        """The stream after the block."""
        width, heads = self.sizes.width, self.sizes.heads
        qkv = _linear("qkv", 3 * width, RMSNorm(name="attention_norm")(x))
        qkv = qkv.reshape(*x.shape[:-1], 3, heads, width // heads)
        query, key, value = jnp.moveaxis(qkv, -3, 0)
        mixed = causal_attention(rotary(query), rotary(key), value)
        x = x + _linear("attention_out", width, mixed.reshape(x.shape))

        normalised = RMSNorm(name="feed_forward_norm")(x)
        gate, up = jnp.split(_linear("gate_up", 2 * self.sizes.hidden, normalised), 2, axis=-1)
        return x + _linear("down", width, jax.nn.silu(gate) * up)


class Decoder(nn.Module):
    """From tokens to the logits of those that follow: embedding, blocks, norm, output layer.

    Weights are drawn with variance 1/fan-in, the embedding with variance 1.
    """

    sizes: Sizes
    remat: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "*batch tokens"]) -> Float[Array, "*batch tokens vocab"]:
        """The logits of every next token."""
        vocabulary, width = self.sizes.vocabulary, self.sizes.width
        table = self.param(
            "embedding", nn.initializers.normal(1.0), (vocabulary, width), self.dtype
        )
        x = table[tokens]
        block = nn.remat(Block) if self.remat else Block
        for layer in range(self.sizes.layers):
            x = block(self.sizes, name=f"block_{layer}")(x)
        return _linear("head", vocabulary, RMSNorm(name="norm")(x))


def _linear(name: str, features: int, x: Float[Array, "*batch width"]) -> Float[Array, "*batch _"]:
    """A matrix of the enclosing module, of the dtype of what it is applied to."""
    dense = nn.Dense(features, use_bias=False, dtype=x.dtype, param_dtype=x.dtype, name=name)
    return dense(x)
