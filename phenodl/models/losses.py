"""Cross-entropy with label smoothing, and the lowest value that it can take.

Smoothing mixes every one-hot label with the uniform distribution (Szegedy et al., CVPR 2016, arXiv
1512.00567, section 7). The loss then cannot fall below the entropy of the smoothed labels, and its
minimum lies at finite logits: what spikes is the excess over that floor.
"""

import math

import jax
from jaxtyping import Array, Float, Int


def smoothed_cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"], smoothing: float = 0.0
) -> Float[Array, "*batch"]:
    """Cross-entropy of smoothed labels with the softmax of the logits, of each example.

    With C classes the label's own class has the probability 1 - s + s/C, every other one s/C.

    Args:
        logits: any floating dtype, which the result keeps.
        labels: in [0, classes).
        smoothing: s, in [0, 1).

    Raises:
        ValueError: ``smoothing`` is not in [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> losses = smoothed_cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]), 0.1)
        >>> print(losses.round(4))  # log 4
        [1.3863 1.3863 1.3863]
    """
    require_smoothing(smoothing)
    classes = logits.shape[-1]
    targets = (1 - smoothing) * jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    return jax.nn.logsumexp(logits, -1) - ((targets + smoothing / classes) * logits).sum(-1)


def smoothing_floor(classes: int, smoothing: float) -> float:
    """The entropy of a smoothed label, the lowest cross-entropy there can be; 0 without smoothing.

    Args:
        classes: number of classes, C.
        smoothing: as for :func:`smoothed_cross_entropy`.

    Raises:
        ValueError: ``classes`` is less than 1, or ``smoothing`` not in [0, 1).

    Example:
        >>> round(smoothing_floor(64, 0.1), 4)
        0.7295
    """
    require_smoothing(smoothing)
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    other = smoothing / classes
    own = 1 - smoothing + other
    if other == 0:
        return 0.0
    return -own * math.log(own) - (classes - 1) * other * math.log(other)


def require_smoothing(smoothing: float) -> None:
    """Refuses what is no smoothing of labels.

    Raises:
        ValueError: ``smoothing`` is not in [0, 1).

    Example:
        >>> require_smoothing(0.1)
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be in [0, 1), got {smoothing}")
