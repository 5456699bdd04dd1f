"""Many rows through one compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


def in_chunks(function: Callable[..., PyTree], size: int, *rows: PyTree) -> PyTree:
    """Calls a compiled function on chunks of one size, so that it is compiled once.

    Args:
        function: from arrays with a leading axis to arrays with the same one.
        size: of a chunk; the last one is filled up with copies of the last row.
        *rows: arguments, pytrees of arrays that share a leading axis.

    Returns:
        What the function gives for all rows, as NumPy arrays.

    Example:
        >>> in_chunks(lambda x: x + len(x), 2, np.arange(3)).tolist()
        [2, 3, 4]
    """
    count = len(jax.tree.leaves(rows)[0])
    parts: list[Any] = []
    for begin in range(0, count, size):
        chosen = np.minimum(np.arange(begin, begin + size), count - 1)
        part = function(*jax.tree.map(lambda leaf, at=chosen: np.asarray(leaf)[at], rows))
        parts.append(jax.tree.map(np.asarray, part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
