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


def connected_masks(
    rng: np.random.Generator,
    entries: Int[np.ndarray, " instances"],
    side: int,
    *,
    degree: int,
    components: int = 1,
) -> Bool[np.ndarray, "instances side side"]:
    """Masks whose observation graph has a given smallest degree and number of components.

    A component is a diagonal block. Its base is a random Hamiltonian cycle through its rows and
    columns, in which all have degree 2, and random cyclic shifts of it up to ``degree``; for degree
    1 it is the cycle less one entry, a path. The remaining entries are drawn uniformly from the
    blocks, except from one row, which keeps the smallest degree.

    Args:
        rng: the source of randomness.
        entries: observed in each mask.
        side: of the square masks.
        degree: of the sparsest row, exactly; all other rows and all columns have it or more.
        components: number of components, all of one size, at least 2 rows and columns.

    Raises:
        ValueError: an argument is out of its range, or a number of entries allows no such mask.

    Example:
        >>> masks = connected_masks(np.random.default_rng(0), np.array([11, 20]), 6, degree=1)
        >>> masks.sum((1, 2)).tolist(), masks.sum(2).min(1).tolist()
        ([11, 20], [1, 1])
    """
    if not (1 <= components <= side // 2 and side % components == 0):
        raise ValueError(
            f"components must be a divisor of the side {side} that leaves blocks of at least 2,"
            f" got {components}"
        )
    block = side // components
    if not 1 <= degree <= block:
        raise ValueError(f"degree must be in [1, {block}], the side of a block, got {degree}")
    fewest, most = entries_of_connected_masks(side, degree=degree, components=components)
    if entries.size and not fewest <= entries.min() <= entries.max() <= most:
        raise ValueError(
            f"entries must be in [{fewest}, {most}] for this connectivity, got {entries.min()} to"
            f" {entries.max()}"
        )
    masks = np.zeros((len(entries), side, side), bool)
    for mask, count in zip(masks, entries, strict=True):
        blocks = [slice(start, start + block) for start in range(0, side, block)]
        sparsest = rng.integers(side)
        free = np.zeros_like(mask)
        for own in blocks:
            mask[own, own] = _cycle_and_shifts(rng, block, degree)
            free[own, own] = True
        if degree == 1:
            # Its row and one of its columns lose the entry that makes the path a cycle.
            mask[sparsest, rng.choice(np.flatnonzero(mask[sparsest]))] = False
        free &= ~mask
        free[sparsest] = False
        places = np.flatnonzero(free)
        mask.flat[rng.choice(places, count - mask.sum(), replace=False)] = True
    return masks


def entries_of_connected_masks(side: int, *, degree: int, components: int = 1) -> tuple[int, int]:
    """The fewest and the most entries that :func:`connected_masks` can observe.

    Example:
        >>> entries_of_connected_masks(20, degree=1), entries_of_connected_masks(20, degree=3)
        ((39, 381), (60, 383))
    """
    block = side // components
    fewest = 2 * side - 1 if degree == 1 else degree * side
    return fewest, side * block - block + degree


def _cycle_and_shifts(
    rng: np.random.Generator, side: int, degree: int
) -> Bool[np.ndarray, "side side"]:
    """A random Hamiltonian cycle, shifted on to a degree of all rows and columns of 2 or more."""
    shifts = np.concatenate([[0, 1], 2 + rng.permutation(side - 2)])[: max(degree, 2)]
    rows, columns = rng.permutation(side), rng.permutation(side)
    mask = np.zeros((side, side), bool)
    for shift in shifts:
        mask[rows, np.roll(columns, shift)] = True
    return mask


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
