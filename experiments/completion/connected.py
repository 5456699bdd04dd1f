"""Connected 4 x 4 instances around the recovery threshold, with the minima they are held against.

One room for the experiments that compare ways of training on the same data.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from phenodl import completion
from phenodl.data.matrices import connectivity_family


class Connected(NamedTuple):
    """Instances whose observation graph is connected and whose minimum rank is known.

    Attributes:
        target: the ground truths.
        mask: true where an entry is observed.
        rank: of the ground truths.
        minimum_rank: of all fits.
        least_norm: the smallest nuclear norm of all fits.
    """

    target: Float[np.ndarray, "instances rows columns"]
    mask: Bool[np.ndarray, "instances rows columns"]
    rank: Int[np.ndarray, " instances"]
    minimum_rank: Int[np.ndarray, " instances"]
    least_norm: Float[np.ndarray, " instances"]

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What a problem reads."""
        return {"target": self.target, "mask": self.mask}


@functools.cache
def connected_instances(seed: int, masks_per_size: int) -> Connected:
    """Those of the first law of :func:`phenodl.data.matrices.connectivity_family`.

    Args:
        seed: of the generator.
        masks_per_size: drawn for each of 17 pairs of a rank and a sample size; nearly all are
            connected.
    """
    family = connectivity_family(seed, masks_per_size=masks_per_size, sparse_masks=0)
    graphs = [completion.observation_graph(mask) for mask in family.mask]
    chosen = np.array([graph.connectivity == "connected" for graph in graphs])
    target, mask, rank = (leaf[chosen] for leaf in family)
    bounds = completion.minimum_rank(target, mask, rank)
    target, mask, rank = (leaf[bounds.closed] for leaf in (target, mask, rank))
    least = completion.minimum_nuclear_norm(target, mask)
    return Connected(target, mask, rank, bounds.upper[bounds.closed], least.upper)
