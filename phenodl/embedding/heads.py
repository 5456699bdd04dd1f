"""Where a transformer keeps its units: the heads of an attention, the feed-forward layer's units.

A head is a unit as a neuron is: the matrices that make its query, key and value go in, its rows of
the output matrix go out, and the stream adds up what the heads give. Copying a head and sharing its
rows therefore embeds a critical point in a model with one head more (EP, arXiv 2105.14573, for
fully connected networks; the step to any sum over units is immediate). A unit of the feed-forward
layer is a neuron; one of SwiGLU has two incoming columns, its gate and its value.

The models are those of :mod:`phenodl.models.transformer` and :mod:`phenodl.models.decoder`, whose
blocks name their matrices differently. Wide models need wide sizes: the heads keep their size, so
``sizes._replace(heads=sizes.heads + 1, head_size=sizes.size_of_head)``, and the feed-forward layer
has a unit more, ``sizes._replace(hidden=sizes.units + 1)``. Sizes are those of all blocks: where
one is split, give the others a null unit.
"""

from phenodl.embedding.networks import require_index
from phenodl.embedding.units import Slices, Units
from phenodl.protocol import Params

_ATTENTION = {"query": (-1,), "key_value": (2, -1), "qkv": (3, -1)}
_FEED_FORWARD = {"up": (-1,), "gate_up": (2, -1)}


def attention_heads(params: Params, block: int, size: int) -> Units:
    """The heads of a block's attention.

    Hand them to :func:`phenodl.embedding.units.split` or :func:`phenodl.embedding.units.null`.

    Args:
        params: of a transformer or decoder.
        block: number of the block, from 0.
        size: entries of each head, which must be the model's: the parameters do not tell, and half
            of it would split half a head, which changes the function.

    Raises:
        ValueError: ``params`` are not those of a transformer, or there is no such block. (A size
            that does not divide the matrices is refused where the units are used.)

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from phenodl.embedding import units
        >>> from phenodl.models.transformer import Sizes, Transformer
        >>> sizes = Sizes(vocabulary=5, length=4, width=4, layers=1, heads=2)
        >>> model = Transformer(sizes)
        >>> params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4), int))["params"]
        >>> wide = units.split(params, attention_heads(params, 0, sizes.size_of_head), 1, 0.3)
        >>> wide["block_0"]["key_value"]["kernel"].shape
        (4, 12)
    """
    return _units(params, block, _ATTENTION, "attention_out", (size,))


def feed_forward_units(params: Params, block: int) -> Units:
    """The units of a block's feed-forward layer.

    Hand them to :func:`phenodl.embedding.units.split` or :func:`phenodl.embedding.units.null`.

    Args:
        params: of a transformer or decoder.
        block: number of the block, from 0.

    Raises:
        ValueError: ``params`` are not those of a transformer, or there is no such block.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from phenodl.embedding import units
        >>> from phenodl.models.decoder import Decoder, Sizes
        >>> sizes = Sizes(vocabulary=5, width=4, layers=1, heads=2, hidden=6, length=4)
        >>> params = jax.jit(Decoder(sizes).init)(jax.random.key(0), jnp.zeros((1, 4), int))
        >>> wide = units.split(params["params"], feed_forward_units(params["params"], 0), 5, 0.3)
        >>> wide["block_0"]["gate_up"]["kernel"].shape, wide["block_0"]["down"]["kernel"].shape
        ((4, 14), (7, 4))
    """
    return _units(params, block, _FEED_FORWARD, "down", ())


def _units(
    params: Params,
    block: int,
    matrices: dict[str, tuple[int, ...]],
    out: str,
    size: tuple[int, ...],
) -> Units:
    """The units that some of a block's matrices compute and another one takes up.

    Args:
        params: of the model.
        block: number of the block.
        matrices: by name, how the outputs of each that there may be divide, ``size`` left out.
        out: the matrix that takes the units up.
        size: into which every unit divides, if it does.
    """
    names = params if isinstance(params, dict) else ()
    blocks = sorted(name for name in names if name.startswith("block_"))
    if not blocks or set(blocks) != {f"block_{number}" for number in range(len(blocks))}:
        found = ", ".join(blocks) or "none"
        raise ValueError(
            f"params: expected those of a transformer, block_0, block_1, ..., got {found}"
        )
    require_index("block", block, len(blocks))
    name = f"block_{block}"
    incoming = tuple(
        Slices((name, matrix, entry), axis, (*sizes, *size))
        for matrix, sizes in matrices.items()
        for entry, axis in (("kernel", 1), ("bias", 0))
        if entry in params[name].get(matrix, ())
    )
    return Units(incoming, (Slices((name, out, "kernel"), 0, (-1, *size)),))
