"""The runs: what is observed, under which loss, and from which factors they start."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.completion.invariants.config import Config
from experiments.completion.invariants.flow import ENTRY_LOSSES
from phenodl.completion.manifolds import place
from phenodl.data.matrices import low_rank_matrices, random_masks
from phenodl.models.factorization import Factors

SIDE = 4
SMALL, MODERATE, LARGE = 1e-3, 0.1, 1.0
"""Standard deviations of random starts, and of those that are placed."""

LARGE_START, NEAR, THIN = "large", "near Ω₂", "rank(A) = 1"
"""Kinds of starts: Gaussian; full rank, but nearly on Ω₂; A of rank 1 and B of full rank."""

NEARLY = 1e-8
"""Size of the last columns of W_aug of the starts near Ω_2, relative to the first ones."""

BASES = ("aligned", "rotated", "rotated, with gauge")
"""In which a start on a manifold is stored and moved."""


_NO_TURN = np.eye(SIDE)


class Starts(NamedTuple):
    """Runs before their first step; every array has them along its leading axis.

    Attributes:
        target: what is fitted; signs ±1 for the logistic loss.
        mask: true where an entry is observed.
        start: the factors.
        loss: place in ``ENTRY_LOSSES``.
        gauged: whether the graded gauge is applied.
        kind: of the start, in words.
        rank: of W_aug.
    """

    target: Float[np.ndarray, "runs rows columns"]
    mask: Bool[np.ndarray, "runs rows columns"]
    start: Factors
    loss: Int[np.ndarray, " runs"]
    gauged: Bool[np.ndarray, " runs"]
    kind: np.ndarray
    rank: Int[np.ndarray, " runs"]

    @property
    def instance(self) -> dict[str, Any]:
        """The axis of instances of a sweep."""
        return {
            "target": self.target,
            "mask": self.mask,
            "start": self.start,
            "loss_weights": np.eye(len(ENTRY_LOSSES))[self.loss],
            "gauged": self.gauged,
        }


def on_every_mask(config: Config) -> Starts:
    """Random masks of any size, each from every kind of start and under every loss."""
    rng = np.random.default_rng([config.seed, 0])
    target = low_rank_matrices(rng, 1 + np.arange(config.masks) % 3, (SIDE, SIDE))
    mask = random_masks(rng, rng.integers(3, SIDE**2, config.masks), (SIDE, SIDE))
    return _join(
        _starts(target, mask, factors, kind, rank, loss)
        for kind, (factors, rank) in _kinds(rng, config.masks).items()
        for loss in range(len(ENTRY_LOSSES))
    )


def on_manifolds(
    seed: int, count: int, std: float, ranks: Sequence[int], bases: Sequence[str]
) -> Starts:
    """Starts on invariant manifolds, with the squared loss of most entries of rank-3 matrices.

    Args:
        seed: of everything drawn.
        count: of the starts on each manifold, in each basis.
        std: of the factors that are placed.
        ranks: k of each manifold Ω_k. Below 3 the flow on it ends at a saddle of the loss.
        bases: some of ``BASES``.
    """
    rng = np.random.default_rng([seed, 1])
    parts = []
    for rank in ranks:
        target = low_rank_matrices(rng, np.full(count, 3), (SIDE, SIDE))
        mask = random_masks(rng, rng.integers(12, SIDE**2, count), (SIDE, SIDE))
        factors = _gaussian(rng, count, std)
        turns, _ = np.linalg.qr(rng.standard_normal((count, SIDE, SIDE)))
        for basis in bases:
            placed = _placed(factors, rank, _NO_TURN if basis == BASES[0] else turns)
            part = _starts(target, mask, placed, basis, rank, loss=0)
            parts.append(part._replace(gauged=np.full(count, basis == BASES[2])))
    return _join(parts)


def of_kind(starts: Starts, kind: str) -> Starts:
    """The runs from one kind of start."""
    return jax.tree.map(lambda leaf: leaf[starts.kind == kind], starts)


def _kinds(rng: np.random.Generator, count: int) -> dict[str, tuple[Factors, int]]:
    """Factors and the rank of W_aug, by the kind of start."""
    moderate = [_gaussian(rng, count, MODERATE) for _ in range(4)]
    scale = np.array([1, 1, NEARLY, NEARLY])
    near = _placed(moderate[2], SIDE)
    thin = jnp.asarray(np.where(np.arange(SIDE) < 1, moderate[3].A, 0.0))
    return {
        "small": (_gaussian(rng, count, SMALL), SIDE),
        LARGE_START: (_gaussian(rng, count, LARGE), SIDE),
        "on Ω₁": (_placed(moderate[0], 1), 1),
        "on Ω₂": (_placed(moderate[1], 2), 2),
        NEAR: (Factors(near.A * scale, near.B * scale[:, None]), SIDE),
        THIN: (Factors(thin, moderate[3].B), SIDE),
    }


def _gaussian(rng: np.random.Generator, count: int, std: float) -> Factors:
    return Factors(*map(jnp.asarray, std * rng.standard_normal((2, count, SIDE, SIDE))))


def _placed(factors: Factors, rank: int, turns: np.ndarray = _NO_TURN) -> Factors:
    """Nearest points on Ω_rank, in an aligned basis that is then turned."""
    turns = np.broadcast_to(turns, factors.A.shape)
    return jax.tree.map(np.asarray, _place_all(factors, np.int32(rank), turns))


_place_all = jax.jit(jax.vmap(place, in_axes=(0, None, 0)))


def _starts(
    target: np.ndarray, mask: np.ndarray, factors: Factors, kind: str, rank: int, loss: int
) -> Starts:
    logistic = list(ENTRY_LOSSES)[loss] == "logistic"
    return Starts(
        target=np.sign(target) if logistic else target,
        mask=mask,
        start=factors,
        loss=np.full(len(target), loss),
        gauged=np.zeros(len(target), bool),
        kind=np.full(len(target), kind, dtype="<U24"),
        rank=np.full(len(target), rank),
    )


def _join(parts: Iterable[Starts]) -> Starts:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
