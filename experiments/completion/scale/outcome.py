"""The instances of the phase diagrams, and which of them were recovered."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.completion.scale.config import Config
from phenodl.completion import observation_graph
from phenodl.data import matrices

RECOVERED = 1e-2
"""Relative error on unobserved entries up to which a matrix counts as recovered."""


class Level(NamedTuple):
    """A row of a phase diagram: a law of masks.

    Attributes:
        name: of the row.
        components: number of diagonal blocks that are observed.
        degree: entries of the sparsest row; None for uniformly random masks.
    """

    name: str
    components: int = 1
    degree: int | None = None


class Cells(NamedTuple):
    """All instances of one side, by the cell of the diagrams that they belong to.

    Attributes:
        target: ground truths.
        mask: true where an entry is observed.
        blocks: entries whose row and column lie in one component of the observation graph.
        rank: of the ground truth.
        oversampling: place of the sample size in the configuration.
        level: place in :func:`levels`.
    """

    target: Float[np.ndarray, "instances side side"]
    mask: Bool[np.ndarray, "instances side side"]
    blocks: Bool[np.ndarray, "instances side side"]
    rank: Int[np.ndarray, " instances"]
    oversampling: Int[np.ndarray, " instances"]
    level: Int[np.ndarray, " instances"]


class Outcome(NamedTuple):
    """What was recovered, one entry per instance of all sides.

    Attributes:
        side: of the matrix.
        rank: of the ground truth.
        oversampling: observed entries per degree of freedom, as place in the configuration.
        level: place in :func:`levels`.
        connected: whether each unobserved entry lies in the one component.
        degree: entries of the sparsest row or column.
        whole: whether the matrix was recovered.
        blocks: whether the unobserved entries within components were.
        fitted: whether training has reached its tolerance.
    """

    side: Int[np.ndarray, " instances"]
    rank: Int[np.ndarray, " instances"]
    oversampling: Int[np.ndarray, " instances"]
    level: Int[np.ndarray, " instances"]
    connected: Bool[np.ndarray, " instances"]
    degree: Int[np.ndarray, " instances"]
    whole: Bool[np.ndarray, " instances"]
    blocks: Bool[np.ndarray, " instances"]
    fitted: Bool[np.ndarray, " instances"]

    def cell(
        self, side: int, rank: int, oversampling: int, level: int
    ) -> Bool[np.ndarray, " instances"]:
        """The instances of one cell of one diagram."""
        diagram = (self.side == side) & (self.rank == rank)
        return diagram & (self.oversampling == oversampling) & (self.level == level)


def levels(config: Config) -> list[Level]:
    """The rows of every diagram, from the least connected to the most, then uniform masks."""
    disconnected = Level(f"{config.components} components", config.components, degree=1)
    connected = [Level(f"degree {degree}", degree=degree) for degree in config.degrees]
    return [disconnected, *connected, Level("uniform")]


def sample_size(oversampling: float, rank: int, side: int) -> int:
    """Observed entries of a number per degree of freedom."""
    return round(oversampling * matrices.degrees_of_freedom(rank, side))


def connectivity_threshold(side: int) -> float:
    """Entries at which a uniformly random observation graph becomes connected, d log d."""
    return side * math.log(side)


def cells(config: Config, side: int) -> Cells:
    """The instances of one side; cells whose masks cannot exist are left out."""
    rng = np.random.default_rng((config.seed, side))
    parts = []
    for own, rank, repeats in zip(config.sides, config.ranks, config.repeats, strict=True):
        for place, ratio in enumerate(config.oversampling):
            for number, level in enumerate(levels(config)):
                entries = sample_size(ratio, rank, side)
                if own != side or not _possible(level, entries, side):
                    continue
                mask = _masks(rng, level, np.full(repeats, entries), side)
                ranks = np.full(repeats, rank)
                target = matrices.low_rank_matrices(rng, ranks, (side, side))
                blocks = np.stack([observation_graph(one).blocks for one in mask])
                where = (np.full(repeats, place), np.full(repeats, number))
                parts.append(Cells(target, mask, blocks, ranks, *where))
    return Cells(*map(np.concatenate, zip(*parts, strict=True)))


def measure(config: Config, results: Mapping[str, xr.Dataset]) -> Outcome:
    """What the trainings ``side20``, ``side100``, ... have recovered."""
    parts = []
    for side in sorted(set(config.sides)):
        family, trained = cells(config, side), results[f"side{side}"]
        degree = np.minimum(family.mask.sum(1).min(1), family.mask.sum(2).min(1))
        parts.append(
            Outcome(
                side=np.full(len(family.rank), side),
                rank=family.rank,
                oversampling=family.oversampling,
                level=family.level,
                connected=np.array([blocks.all() for blocks in family.blocks]),
                degree=degree,
                whole=_recovered(family, trained.W.values, ~family.mask),
                blocks=_recovered(family, trained.W.values, ~family.mask & family.blocks),
                fitted=trained.mean_loss.values <= config.tolerance,
            )
        )
    return Outcome(*map(np.concatenate, zip(*parts, strict=True)))


def _recovered(
    family: Cells,
    learned: Float[np.ndarray, "instances side side"],
    entries: Bool[np.ndarray, "instances side side"],
) -> Bool[np.ndarray, " instances"]:
    """Whether the relative error on some of the entries is small; true where there are none."""
    squares = ((learned - family.target) ** 2 * entries).sum((1, 2))
    return squares <= RECOVERED**2 * (family.target**2 * entries).sum((1, 2))


def _possible(level: Level, entries: int, side: int) -> bool:
    if level.degree is None:
        return True
    fewest, most = matrices.entries_of_connected_masks(
        side, degree=level.degree, components=level.components
    )
    return fewest <= entries <= most


def _masks(
    rng: np.random.Generator, level: Level, entries: Int[np.ndarray, " instances"], side: int
) -> Bool[np.ndarray, "instances side side"]:
    if level.degree is None:
        return matrices.random_masks(rng, entries, (side, side))
    return matrices.connected_masks(
        rng, entries, side, degree=level.degree, components=level.components
    )
