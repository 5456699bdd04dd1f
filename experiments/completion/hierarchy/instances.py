"""The instances: rank-3 matrices of a given spectrum, one entry hidden, all 16 places in turn."""

import numpy as np
from jaxtyping import Float

from experiments.completion.hierarchy.config import Config
from phenodl.data.matrices import Instances

SIDE = 4
RANK = SIDE - 1  # with one entry hidden, the minimum rank of a generic fit


def instances(config: Config) -> Instances:
    """Ground truths U diag(spectrum) Vᵀ with Haar-distributed U, V, as many for each mask."""
    rng = np.random.default_rng(config.seed)
    count = SIDE * SIDE * config.draws
    hidden = np.eye(SIDE * SIDE, dtype=bool)[np.arange(count) % (SIDE * SIDE)]
    values = np.append(config.spectrum, 0.0)
    target = _orthogonal(rng, count) @ (values[:, None] * _orthogonal(rng, count))
    return Instances(target, ~hidden.reshape(count, SIDE, SIDE), np.full(count, RANK))


def _orthogonal(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count side side"]:
    """Haar-distributed orthogonal matrices (Mezzadri, Notices of the AMS 54, 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((count, SIDE, SIDE)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
