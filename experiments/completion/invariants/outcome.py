"""Ranks, lost manifolds and the drift of the balance, from the stored results."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.completion.invariants.flow import LOOK_EVERY
from experiments.completion.invariants.starts import BASES, Starts

RANK_RTOL = 1e-12
"""Singular values of W_aug count above this share of the largest: far above rounding, far below
what a flow can shrink a direction to that has started from 1e-8."""

LOST = 1e-8
"""Share of the largest singular value at which the one after the k-th is no rounding any more."""

KEPT = 1e-12
"""Share up to which it is."""

FACTORS = (1.0, 0.5, 0.25)
"""Of the safe step: a method of fourth order drifts in proportion to their fourth power."""


def ranks(trained: xr.Dataset) -> Int[np.ndarray, "runs looks"]:
    """The rank of W_aug at every look."""
    values = singular_values(trained)
    return (values > RANK_RTOL * values[..., :1]).sum(-1)


def conserved(starts: Starts, trained: xr.Dataset) -> Bool[np.ndarray, " runs"]:
    """Whether the rank of W_aug was that of the start at every look."""
    return (ranks(trained) == starts.rank[:, None]).all(1)


def by_mask(values: np.ndarray, masks: int) -> np.ndarray:
    """One row per mask with all of its runs; the masks vary fastest in ``on_every_mask``."""
    return values.reshape(-1, masks).T


def final_rank_of_a(trained: xr.Dataset) -> Int[np.ndarray, " runs"]:
    """The rank of A alone at the end."""
    values = np.linalg.svd(trained.A.values, compute_uv=False)
    return (values > RANK_RTOL * values[:, :1]).sum(-1)


def largest_left_out(starts: Starts, trained: xr.Dataset) -> float:
    """The largest number, at the end, in latent columns that started as zeros."""
    unused = np.arange(starts.start.A.shape[-1]) >= starts.rank[:, None]
    a = np.abs(trained.A.values).max(1)
    b = np.abs(trained.B.values).max(2)
    return float(np.where(unused, np.maximum(a, b), 0.0).max())


class Departure(NamedTuple):
    """How one manifold is left, in each basis.

    Attributes:
        steps: of the looks.
        ratio: by basis, σ_{k+1} / σ_1 of W_aug.
    """

    steps: Int[np.ndarray, " looks"]
    ratio: dict[str, Float[np.ndarray, "runs looks"]]

    @property
    def lost(self) -> Bool[np.ndarray, " runs"]:
        """Whether a run in the rotated basis has left the manifold."""
        return np.any(self.ratio["rotated"] > LOST, axis=1)

    @property
    def kept_by_gauge(self) -> Bool[np.ndarray, " lost"]:
        """Of runs that are lost: whether at that look the gauge still holds the manifold."""
        when = (self.ratio["rotated"] > LOST).argmax(1)[self.lost]
        gauged = self.ratio["rotated, with gauge"][self.lost]
        return gauged[np.arange(len(when)), when] <= KEPT


def departure(starts: Starts, trained: xr.Dataset, rank: int) -> Departure:
    """The departure from Ω_rank."""
    values = singular_values(trained)
    ratio = values[..., rank] / values[..., 0]
    chosen = {basis: (starts.kind == basis) & (starts.rank == rank) for basis in BASES}
    return Departure(
        steps=np.arange(values.shape[1]) * LOOK_EVERY,
        ratio={basis: ratio[rows] for basis, rows in chosen.items()},
    )


def orders(drift: Float[np.ndarray, "runs factors"]) -> Float[np.ndarray, " runs"]:
    """The power of the step with which the balance drifts, per run."""
    return np.polyfit(np.log(FACTORS), np.log(np.maximum(drift, 1e-300)).T, 1)[0]


def singular_values(trained: xr.Dataset) -> Float[np.ndarray, "runs looks inner"]:
    """Those of W_aug at every look."""
    return trained.singular_values.values
