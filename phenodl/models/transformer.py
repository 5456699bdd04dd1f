"""A causal transformer with pre-, post- or no layer normalisation, for prediction from tokens.

Vaswani et al., NeurIPS 2017 (arXiv 1706.03762), with learned positions and GELU. Where the
normalisation stands decides how large gradients are at the start (Xiong et al., ICML 2020, arXiv
2002.04745). Only the last positions that a task predicts are carried through the last block.
Everything is plain operations, differentiable as often as a curvature needs.
"""

from typing import Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from phenodl.models.attention import causal_attention
from phenodl.models.checks import require_batch_size, require_model
from phenodl.models.losses import smoothed_cross_entropy
from phenodl.protocol import Data, Hyper, Params, Problem

Norm = Literal["pre", "post", "none"]

_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # ±1/sqrt(fan-in)


class Sizes(NamedTuple):
    """The sizes of a transformer.

    Attributes:
        vocabulary: number of different tokens, and of classes.
        length: of the longest sequence.
        width: of the residual stream.
        layers: number of blocks.
        heads: of the attention.
        head_size: entries of each head; None, width / heads.
        hidden: units of the feed-forward layer; None, four times the width.
    """

    vocabulary: int
    length: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    head_size: int | None = None
    hidden: int | None = None

    @property
    def size_of_head(self) -> int:
        """Entries of each head, whether given or not.

        Example:
            >>> Sizes(vocabulary=10, length=8, width=16, heads=2).size_of_head
            8
        """
        return self.width // self.heads if self.head_size is None else self.head_size

    @property
    def units(self) -> int:
        """Units of the feed-forward layer, whether given or not."""
        return 4 * self.width if self.hidden is None else self.hidden


class Block(nn.Module):
    """Attention, then a feed-forward layer, each added to the stream.

    Attributes:
        sizes: of the model.
        norm: of the input of either part, of the sum with its output, or none.
    """

    sizes: Sizes
    norm: Norm = "pre"

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch tokens width"], positions: int
    ) -> Float[Array, "*batch positions width"]:
        """The stream after this block.

        Args:
            x: the stream before it.
            positions: the number of last positions that are wanted.
        """
        width, size = x.shape[-1], self.sizes.size_of_head
        every_head = self.sizes.heads * size

        def split(values: Float[Array, "*batch tokens all"]) -> Float[Array, "*batch tokens h s"]:
            return values.reshape(*values.shape[:-1], -1, size)

        before = _layer_norm("attention_norm", self.norm == "pre", x)
        last = x[..., -positions:, :]
        query = split(_dense("query", every_head, before[..., -positions:, :]))
        key, value = jnp.split(split(_dense("key_value", 2 * every_head, before)), 2, axis=-2)
        mixed = causal_attention(query, key, value).reshape(*last.shape[:-1], every_head)
        last = last + _dense("attention_out", width, mixed)
        last = _layer_norm("attention_norm", self.norm == "post", last)

        before = _layer_norm("feed_forward_norm", self.norm == "pre", last)
        hidden = jax.nn.gelu(_dense("up", self.sizes.units, before))
        last = last + _dense("down", width, hidden)
        return _layer_norm("feed_forward_norm", self.norm == "post", last)


class Transformer(nn.Module):
    """From tokens to the logits at the last positions.

    Weights are drawn uniformly from ±1/sqrt(fan-in), biases start at zero, and the embeddings of
    tokens and positions are standard normal.

    Attributes:
        sizes: of the model.
        norm: see :class:`Block`; ``"pre"`` normalises the last stream too.
        positions: the number of last positions whose logits are wanted; None, all.
        dtype: of parameters and activations.

    Example:
        >>> model = Transformer(Sizes(vocabulary=10, length=8, width=16), positions=1)
        >>> tokens = jnp.zeros((3, 8), int)
        >>> logits, params = jax.jit(model.init_with_output)(jax.random.key(0), tokens)
        >>> logits.shape, sorted(params["params"])
        ((3, 1, 10), ['block_0', 'block_1', 'head', 'norm', 'positions', 'tokens'])
    """

    sizes: Sizes
    norm: Norm = "pre"
    positions: int | None = None
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "*batch tokens"]
    ) -> Float[Array, "*batch positions vocabulary"]:
        """The logits, at most one per token."""
        sizes, count = self.sizes, tokens.shape[-1]

        def table(name: str, rows: int) -> Float[Array, "rows width"]:
            return self.param(name, nn.initializers.normal(1.0), (rows, sizes.width), self.dtype)

        x = table("tokens", sizes.vocabulary)[tokens]
        x = x + jnp.broadcast_to(table("positions", sizes.length)[:count], x.shape)
        wanted = count if self.positions is None else self.positions
        for layer in range(sizes.layers):
            positions = wanted if layer == sizes.layers - 1 else count
            x = Block(sizes, self.norm, name=f"block_{layer}")(x, positions)
        x = _layer_norm("norm", self.norm == "pre", x[..., -wanted:, :])
        return _dense("head", sizes.vocabulary, x)


def problem(
    sequences: ArrayLike,
    labels: ArrayLike,
    sizes: Sizes,
    *,
    batch_size: int,
    norm: Norm = "pre",
    smoothing: float = 0.0,
    dtype: jnp.dtype | type = jnp.float32,
) -> Problem:
    """Predict labels from sequences, in cross-entropy on batches drawn with replacement.

    Args:
        sequences: (n, tokens), integers in [0, vocabulary).
        labels: (n, positions), those of the last positions of each sequence, in the same range.
        sizes: of the model.
        batch_size: sequences per step.
        norm: where layers are normalised.
        smoothing: of the labels, see :func:`phenodl.models.losses.smoothed_cross_entropy`.
        dtype: of parameters and activations.

    Returns:
        The problem; its data hold ``sequences`` and ``labels``.

    Raises:
        ValueError: the shapes do not fit each other, the batch is larger than the data, a token or
            a sequence does not fit the model, a size is below 1, the heads do not divide the width
            that they share, ``norm`` is unknown, or ``smoothing`` is not in [0, 1).

    Example:
        >>> sizes = Sizes(vocabulary=10, length=8, width=16)
        >>> model = problem(np.zeros((5, 8), int), np.zeros((5, 1), int), sizes, batch_size=2)
        >>> params = jax.jit(lambda key: model.init(key, model.data, {}))(jax.random.key(0))
        >>> batch = model.batch(model.data, jax.random.key(1), jnp.zeros((), int))
        >>> batch["sequences"].shape, jax.jit(model.loss)(params, batch).shape
        ((2, 8), ())
    """
    sequences, labels = np.asarray(sequences), np.asarray(labels)
    _check(sequences, labels, sizes, batch_size, norm, smoothing)
    model = Transformer(sizes, norm, positions=labels.shape[1], dtype=dtype)

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        del hyper
        return model.init(key, data["sequences"][:1])["params"]

    def loss(params: Params, batch: Data) -> Float[Array, ""]:
        logits = model.apply({"params": params}, batch["sequences"])
        assert isinstance(logits, jax.Array)
        return smoothed_cross_entropy(logits, batch["labels"], smoothing).mean()

    def batch(data: Data, key: Key[Array, ""], step: Int[Array, ""]) -> Data:
        del step
        chosen = jax.random.randint(key, (batch_size,), 0, len(data["labels"]))
        return {name: data[name][chosen] for name in ("sequences", "labels")}

    data = {"sequences": sequences, "labels": labels}
    return Problem(init, loss, batch, {name: jnp.asarray(each) for name, each in data.items()})


def _check(
    sequences: np.ndarray,
    labels: np.ndarray,
    sizes: Sizes,
    batch_size: int,
    norm: Norm,
    smoothing: float,
) -> None:
    require_model(sizes, smoothing)
    if sizes.head_size is None and sizes.width % sizes.heads:
        raise ValueError(f"heads must divide the width {sizes.width}; got {sizes.heads}")
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
    for name, array in (("sequences", sequences), ("labels", labels)):
        if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"{name} must be a matrix of integers, got {array.dtype.name}{list(array.shape)}"
            )
        if not 0 <= array.min() <= array.max() < sizes.vocabulary:
            raise ValueError(
                f"{name} must lie in [0, vocabulary = {sizes.vocabulary}), got "
                f"{array.min()} to {array.max()}"
            )
    (n, tokens), (n_labels, positions) = sequences.shape, labels.shape
    if tokens > sizes.length:
        raise ValueError(
            f"sequences must have at most length = {sizes.length} tokens, as the model has; "
            f"got {tokens}"
        )
    if n_labels != n or positions > tokens:
        raise ValueError(
            f"labels must have {n} rows of at most {tokens}, as the sequences do; "
            f"got {list(labels.shape)}"
        )
    require_batch_size(batch_size, n)


def _dense(
    name: str, width: int, x: Float[Array, "*batch width"]
) -> Float[Array, "*batch outputs"]:
    return nn.Dense(width, dtype=x.dtype, param_dtype=x.dtype, kernel_init=_UNIFORM, name=name)(x)


def _layer_norm(
    name: str, wanted: bool, x: Float[Array, "*batch width"]
) -> Float[Array, "*batch width"]:
    """Layer normalisation where it is wanted; the two-pass variance does not cancel."""
    if not wanted:
        return x
    own_dtype = {"dtype": x.dtype, "param_dtype": x.dtype, "force_float32_reductions": False}
    return nn.LayerNorm(use_fast_variance=False, name=name, **own_dtype)(x)
