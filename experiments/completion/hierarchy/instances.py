"""The instances: rank-3 matrices of a given spectrum, one entry hidden, all 16 places in turn."""

import numpy as np
from jaxtyping import Float

from experiments.completion.hierarchy.config import Config
from phenodl.data.matrices import Instances

SIDE = 4
RANK = SIDE - 1  # with one entry hidden, the minimum rank of a generic fit


def instances(config: Config) -> Instances:
    """Ground truths U diag(spectrum) Vᵀ with Haar-distributed U, V, the same number for each mask.

    Among the draws those count whose minor opposite the hidden entry is large enough.
    """
    rng = np.random.default_rng(config.seed)
    count = SIDE * SIDE * config.draws
    hidden = np.eye(SIDE * SIDE, dtype=bool)[np.arange(count) % (SIDE * SIDE)]
    mask = ~hidden.reshape(count, SIDE, SIDE)
    target = np.empty((count, SIDE, SIDE))
    missing = np.arange(count)
    while missing.size:
        left, right = _orthogonal(rng, missing.size), _orthogonal(rng, missing.size)
        values = np.append(config.spectrum, 0.0)
        drawn = left @ (values[:, None] * right)
        # The minor is the cofactor of a singular matrix: a product of its null vectors' entries.
        null = np.prod(config.spectrum) * left[:, :, -1:] * right[:, -1:]
        minor = np.abs(null[~mask[missing]])
        enough = minor >= config.least_minor
        target[missing[enough]] = drawn[enough]
        missing = missing[~enough]
    return Instances(target, mask, np.full(count, RANK))


def _orthogonal(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count side side"]:
    """Haar-distributed orthogonal matrices (Mezzadri, Notices of the AMS 54, 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((count, SIDE, SIDE)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
