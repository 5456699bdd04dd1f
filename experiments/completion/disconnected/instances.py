"""The nine masks, the ground truths, and the line on which the solutions of each must lie.

Number the row and column of the single entry q, the block p. The observed block is M_p = σ_p u vᵀ,
the single entry M_q = ±σ_q. Every balanced fit in which each component has rank 1 is

    A_p = √σ_p u xᵀ,  B_p = √σ_p x vᵀ,   A_q = √σ_q yᵀ,  B_q = ±√σ_q y,

with unit vectors x and y in the latent space: nothing observed ties one to the other. The hidden
entries are therefore W_pq = ±c √(σ_p σ_q) u and W_qp = c √(σ_p σ_q) vᵀ with c = cos(x, y): a line
through 0, with ends at c = ±1. Its points all have the least nuclear norm, σ_p + σ_q, and rank 2
but at the ends. There it meets the fits of rank 1, which have W_pq = λ M_pq and W_qp = M_qp / λ:
in the plane of one entry of each a hyperbola, with the ground truth at λ = 1.

A small Gaussian start gives x and y the directions of A_pᵀ u + B_p v and A_qᵀ ± B_q, as random and
independent as two directions can be. With w latent directions c thus has a density proportional to
(1 - c²)^((w-3)/2): uniform for w = 3, the arcsine law for w = 2. Greedy low-rank learning ends at
c = 0.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from phenodl.data.matrices import low_rank_matrices
from phenodl.models.factorization import Factors

MASKS = 9
LARGEST_RATIO = 20.0
"""Of σ_p and σ_q: the time to learn the weaker component, in steps, grows with it."""


class Disconnected(NamedTuple):
    """Instances of one mask after the other, and their lines.

    Attributes:
        target: ground truths of rank 1.
        mask: true in a 2 x 2 block and at the single entry that is in neither of its rows and
            columns.
        single: row and column of the single entry, q.
        left: u of the block, 0 in the row of the single entry.
        right: v of the block, 0 in the column of the single entry.
        strength: σ_p and σ_q.
        sign: of the single entry.
    """

    target: Float[np.ndarray, "instances 3 3"]
    mask: Bool[np.ndarray, "instances 3 3"]
    single: Int[np.ndarray, "instances 2"]
    left: Float[np.ndarray, "instances 3"]
    right: Float[np.ndarray, "instances 3"]
    strength: Float[np.ndarray, "instances 2"]
    sign: Float[np.ndarray, " instances"]

    @property
    def line(self) -> Float[np.ndarray, "instances 3 3"]:
        """The hidden entries at c = 1; those of any solution are c times as large."""
        row, column = self._units()
        between = np.sqrt(self.strength.prod(1))[:, None, None]
        down = (self.sign[:, None] * self.left)[:, :, None] * column[:, None]
        across = row[:, :, None] * self.right[:, None]
        return between * (down + across)

    @property
    def pair(self) -> Int[np.ndarray, "instances 2 2"]:
        """Row and column of two hidden entries, one on each side: (1, 2) and (2, 1) for q = 1."""
        first = np.where(self.single == 0, 1, 0)  # the first row and column of the block
        row, column = self.single.T
        return np.stack(
            [np.stack([row, first[:, 1]], 1), np.stack([first[:, 0], column], 1)], axis=1
        )

    def directions(
        self, start: Factors
    ) -> tuple[Float[np.ndarray, "starts instances w"], Float[np.ndarray, "starts instances w"]]:
        """What a small start decides: the latent directions in which p and q will grow."""
        a, b = np.asarray(start.A), np.asarray(start.B)
        row, column = self._units()
        x = _apply(self.left, a.swapaxes(-1, -2)) + _apply(self.right, b)
        y = _apply(row, a.swapaxes(-1, -2)) + self.sign[:, None] * _apply(column, b)
        return x, y

    def _units(self) -> tuple[np.ndarray, np.ndarray]:
        return np.eye(3)[self.single[:, 0]], np.eye(3)[self.single[:, 1]]


def instances(seed: int, truths: int) -> Disconnected:
    """Ground truths of rank 1 for each mask, Gaussian factors, σ_p and σ_q within a factor of 20.

    Args:
        seed: of the ground truths.
        truths: for each mask.
    """
    rng = np.random.default_rng([seed, 0])
    single = np.repeat(np.stack(np.divmod(np.arange(MASKS), 3), axis=1), truths, axis=0)
    accepted = np.full((len(single), 3, 3), np.nan)
    while np.isnan(accepted).any():
        missing = np.isnan(accepted[:, 0, 0])
        drawn = low_rank_matrices(rng, np.ones(missing.sum(), int), (3, 3))
        _, _, _, strength, _ = _describe(drawn, single[missing])
        ratio = strength[:, 0] / strength[:, 1]
        even = (ratio <= LARGEST_RATIO) & (ratio >= 1 / LARGEST_RATIO)
        accepted[np.flatnonzero(missing)[even]] = drawn[even]
    mask, left, right, strength, sign = _describe(accepted, single)
    return Disconnected(accepted, mask, single, left, right, strength, sign)


def _describe(target: np.ndarray, single: np.ndarray) -> tuple[np.ndarray, ...]:
    rows, columns = np.eye(3, dtype=bool)[single.T]
    block = np.where(~rows[:, :, None] & ~columns[:, None], target, 0.0)
    left, values, right = np.linalg.svd(block)
    alone = target[np.arange(len(target)), *single.T]
    mask = rows[:, :, None] == columns[:, None]
    strength = np.stack([values[:, 0], np.abs(alone)], axis=1)
    return mask, left[:, :, 0], right[:, 0], strength, np.sign(alone)


def _apply(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.einsum("ni,...nki->...nk", vector, matrix)
