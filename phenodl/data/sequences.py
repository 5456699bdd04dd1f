"""The anchor task: a sequence of tokens whose last position is to be predicted by two rules.

Zhang et al., NeurIPS 2024 (arXiv 2405.05409) use such compositional tasks to tell models that
memorise from models that reason: each anchor token stands for a simple function, and two of them
in a row for their composition.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

SHIFTS = (1, 5, 7, 11)
"""What the anchor tokens 0, 1, 2, 3 add to the key."""


class Sequences(NamedTuple):
    """Sequences of tokens and what follows each: n rows.

    Attributes:
        tokens: in [0, vocabulary).
        labels: of the last position.
    """

    tokens: Int[np.ndarray, "n length"]
    labels: Int[np.ndarray, "n 1"]


def anchor_sequences(
    seed: int, n: int = 512, *, length: int = 8, vocabulary: int = 64
) -> Sequences:
    """Sequences in which a key is followed by two anchors; the label is the key plus both shifts.

    The key stands at a random place, the two anchors right after it. All other tokens, the key
    among them, are uniform over those that are no anchors. Sums are taken modulo ``vocabulary``.

    Args:
        seed: of the draws.
        n: sequences.
        length: tokens per sequence.
        vocabulary: number of tokens, of which the first four are the anchors.

    Raises:
        ValueError: ``n`` is less than 1, ``length`` less than 3, or ``vocabulary`` leaves no token
            beside the anchors.

    Example:
        >>> tokens, labels = anchor_sequences(seed=0, n=2)
        >>> tokens.shape, labels.shape
        ((2, 8), (2, 1))
    """
    anchors = len(SHIFTS)
    for name, number, least in (("n", n, 1), ("length", length, 3)):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if vocabulary <= anchors:
        raise ValueError(f"vocabulary must be more than the {anchors} anchors, got {vocabulary}")
    random = np.random.default_rng(seed)
    tokens = random.integers(anchors, vocabulary, (n, length), np.int32)
    place = random.integers(0, length - 2, n)
    pair = random.integers(0, anchors, (n, 2), np.int32)
    rows = np.arange(n)
    tokens[rows[:, None], place[:, None] + np.array([1, 2])] = pair
    sums = tokens[rows, place] + np.asarray(SHIFTS, np.int32)[pair].sum(axis=1)
    return Sequences(tokens, (sums % vocabulary).astype(np.int32)[:, None])
