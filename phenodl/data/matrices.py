"""Instances of matrix completion: low-rank ground truths and masks, drawn by NumPy generators.

Everything is float64 and made on the host; a seed decides every instance.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Instances(NamedTuple):
    """A family of completion problems of one shape, instances along the leading axis.

    Attributes:
        target: the ground truths M, all entries known.
        mask: true where an entry is observed.
        rank: of each ground truth.
    """

    target: Float[np.ndarray, "instances rows columns"]
    mask: Bool[np.ndarray, "instances rows columns"]
    rank: Int[np.ndarray, " instances"]


def degrees_of_freedom(rank: int, side: int) -> int:
    """The dimension 2 r d - r² of the set of d x d matrices of rank r.

    Example:
        >>> [degrees_of_freedom(rank, side=4) for rank in (1, 2, 3)]
        [7, 12, 15]
    """
    return rank * (2 * side - rank)


def low_rank_matrices(
    rng: np.random.Generator, rank: Int[np.ndarray, " instances"], shape: tuple[int, int]
) -> Float[np.ndarray, "instances rows columns"]:
    """Ground truths M = G1 G2 with independent standard normal factors of the given inner widths.

    Args:
        rng: the source of randomness.
        rank: of each matrix, at most the smaller side.
        shape: of the matrices.

    Raises:
        ValueError: a rank is not in [1, smaller side].

    Example:
        >>> target = low_rank_matrices(np.random.default_rng(0), np.array([1, 2]), (4, 4))
        >>> np.linalg.matrix_rank(target).tolist()
        [1, 2]
    """
    largest = min(shape)
    if rank.size and not 1 <= rank.min() <= rank.max() <= largest:
        raise ValueError(f"rank must be in [1, {largest}], got {rank.min()} to {rank.max()}")
    left = rng.standard_normal((len(rank), shape[0], largest))
    right = rng.standard_normal((len(rank), largest, shape[1]))
    used = np.arange(largest) < rank[:, None]
    return (left * used[:, None]) @ right


def random_masks(
    rng: np.random.Generator, entries: Int[np.ndarray, " instances"], shape: tuple[int, int]
) -> Bool[np.ndarray, "instances rows columns"]:
    """Masks drawn uniformly among those with the given numbers of observed entries.

    Args:
        rng: the source of randomness.
        entries: observed in each mask.
        shape: of the masks.

    Raises:
        ValueError: a number of entries is not in [1, size of the matrix].

    Example:
        >>> random_masks(np.random.default_rng(0), np.array([3, 5]), (2, 3)).sum((1, 2)).tolist()
        [3, 5]
    """
    size = shape[0] * shape[1]
    if entries.size and not 1 <= entries.min() <= entries.max() <= size:
        raise ValueError(f"entries must be in [1, {size}], got {entries.min()} to {entries.max()}")
    place = rng.permuted(np.tile(np.arange(size), (len(entries), 1)), axis=1)
    return (place < entries[:, None]).reshape(-1, *shape)


def connectivity_family(
    seed: int, *, masks_per_size: int = 10, sparse_masks: int = 590, side: int = 4
) -> Instances:
    """Instances behind Figure 1 of MF (arXiv 2405.13721), and sparse ones that are disconnected.

    Two laws together. Sample sizes around recovery: for each rank r = 1, 2, 3 the sizes from
    2rd - r² - 4 to 2rd - r² + 1, short of the full matrix. Nearly all of these masks are connected,
    so the second law draws 3 to 10 entries, with ranks 1, 2, 3 in turn: of 4 x 4 masks about one in
    six is complete bipartite and as many are disconnected otherwise.

    Args:
        seed: of the generator.
        masks_per_size: masks for each rank and sample size of the first law.
        sparse_masks: masks of the second law.
        side: of the square matrices, d, at least 4.

    Raises:
        ValueError: ``side`` is less than 4.

    Example:
        >>> family = connectivity_family(seed=0)
        >>> family.target.shape, int(family.mask.sum((1, 2)).min())
        ((760, 4, 4), 3)
    """
    if side < 4:
        raise ValueError(f"side must be at least 4, got {side}")
    rng = np.random.default_rng(seed)
    sizes = []
    for rank in (1, 2, 3):
        threshold = degrees_of_freedom(rank, side)
        largest = min(threshold + 1, side * side - 1)
        sizes += [(rank, entries) for entries in range(threshold - 4, largest + 1)]
    near_rank, near_entries = np.repeat(np.array(sizes), masks_per_size, axis=0).T

    rank = np.concatenate([near_rank, 1 + np.arange(sparse_masks) % 3])
    entries = np.concatenate([near_entries, rng.integers(3, 11, sparse_masks)])
    shape = (side, side)
    return Instances(low_rank_matrices(rng, rank, shape), random_masks(rng, entries, shape), rank)
