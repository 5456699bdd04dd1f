"""Where a convolutional network keeps its units: the channels of a convolution, dense units.

A channel is a unit as a neuron is: its kernel and bias go in, and the taps that read it in the next
layer go out. All pixels of the channel are one unit, so behind the last convolution a unit goes out
through as many rows of the dense layer as it has pixels. The Embedding Principle (EP, arXiv
2105.14573) rests on nothing but these sums over units, and holds for channels too.
"""

from phenodl.embedding.units import Slices, Units
from phenodl.models.cnn import LAYERS, Params


def channels(params: Params, layer: str) -> Units:
    """The channels of a convolution, or the units of the hidden dense layer.

    Hand them to :func:`phenodl.embedding.units.split` or :func:`phenodl.embedding.units.null`. A
    null channel keeps a critical point only if the activation is zero at zero, and, since relu has
    a kink there, should be smooth.

    Args:
        params: from :func:`phenodl.models.cnn.init`.
        layer: ``"conv1"``, ``"conv2"`` or ``"dense1"``.

    Raises:
        ValueError: the network has no such hidden layer, or ``params`` are not those of a
            convolutional network.

    Example:
        >>> import jax
        >>> from phenodl.embedding import units
        >>> from phenodl.models import cnn
        >>> params = cnn.init(jax.random.key(0), (8, 8))
        >>> wide = units.split(params, channels(params, "conv2"), 3, 0.4)
        >>> wide["conv2"]["weight"].shape, wide["dense1"]["weight"].shape
        ((3, 3, 8, 17), (68, 32))
    """
    if not isinstance(params, dict) or sorted(params) != sorted(LAYERS):
        found = ", ".join(map(str, params)) if isinstance(params, dict) else type(params).__name__
        raise ValueError(f"params: expected the layers {', '.join(LAYERS)}, got {found}")
    if layer not in LAYERS[:-1]:
        raise ValueError(f"layer: expected one of {', '.join(LAYERS[:-1])}, got {layer!r}")
    following = LAYERS[LAYERS.index(layer) + 1]
    weight, after = params[layer]["weight"], params[following]["weight"]
    last = weight.ndim - 1
    if after.ndim > 2:  # the taps of a kernel, (height, width, in, out)
        outgoing = Slices((following, "weight"), 2)
    else:  # (in, out); behind a convolution, all pixels of a channel follow each other
        outgoing = Slices((following, "weight"), 0, (-1, len(after) // weight.shape[-1]))
    return Units(
        incoming=(Slices((layer, "weight"), last), Slices((layer, "bias"), 0)),
        outgoing=(outgoing,),
    )
