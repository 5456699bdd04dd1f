"""The configuration of ``completion-generalization``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment

WELL_SAMPLED = 1.6
"""Observed entries per degree of freedom from which the ground truth ought to be found."""


@dataclass(frozen=True)
class Config:
    """Square matrices of low rank from some of their entries, at every width and two starts."""

    seed: int = 611
    """Of the ground truths, the masks and the initial factors."""
    side: int = 8
    """Rows, and columns, of the ground truths."""
    rank: int = 2
    """Of the ground truths."""
    sample_sizes: tuple[int, ...] = (24, 32, 40, 48, 56)
    """Numbers of observed entries."""
    inner_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Columns of the left factor: below the rank, the rank, and up to far more."""
    repeats: int = 20
    """Instances (a ground truth and a mask) of each sample size."""
    small_std: float = 1e-8
    """Small start: standard deviation of the factors at width 1; at width w over the fourth root
    of w, so that the product starts equally large at every width."""
    large_std: float = 1.0
    """Large start, likewise."""
    steps: int = 1500
    """Steps of gradient descent at most."""
    tolerance: float = 1e-14
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require(3 <= self.side <= 64, "side", "in [3, 64]", self.side)
        require(2 <= self.rank < self.side, "rank", f"in [2, {self.side})", self.rank)
        require_count("repeats", self.repeats)
        require_count("steps", self.steps)
        require_positive("tolerance", self.tolerance)
        self._require_widths()
        self._require_sizes()
        require(0 < self.small_std < 1, "small_std", "positive and below 1", self.small_std)
        require_positive("large_std", self.large_std)
        above = f"above small_std, {self.small_std:g}"
        require(self.large_std > self.small_std, "large_std", above, self.large_std)

    def _require_widths(self) -> None:
        widths, field = self.inner_widths, "inner_widths"
        require_each(field, widths, 1, 1025)
        require(len(set(widths)) == len(widths), field, "different numbers", widths)
        kinds = f"one below the rank {self.rank}, the rank, one between and one of at least the"
        complete = min(widths) < self.rank in widths and max(widths) >= self.side
        between = any(self.rank < width < max(widths) for width in widths)
        require(complete and between, field, f"{kinds} side {self.side}", widths)

    def _require_sizes(self) -> None:
        sizes, field = self.sample_sizes, "sample_sizes"
        require_each(field, sizes, 1, self.side**2)
        require(len(set(sizes)) == len(sizes), field, "different numbers", sizes)
        few, many = self.degrees_of_freedom, WELL_SAMPLED * self.degrees_of_freedom
        both = f"some below {few}, the degrees of freedom, and some from {many:g}"
        require(min(sizes) < few and max(sizes) >= many, field, both, sizes)

    @property
    def degrees_of_freedom(self) -> int:
        """Of a square matrix of this rank, 2 r d - r²."""
        return self.rank * (2 * self.side - self.rank)


EXPERIMENT = Experiment(
    name="completion-generalization",
    study="completion",
    figure="the puzzle of generalization",
    summary="More parameters than data do no harm from a small start; from a large one they do",
    presets={
        "quick": Config(),
        "paper": Config(
            side=10,
            sample_sizes=(27, 36, 45, 54, 63, 72, 81, 90),
            inner_widths=(1, 2, 3, 5, 10, 20, 40),
            repeats=100,
            steps=4000,
        ),
    },
    minutes={"quick": 0.1, "paper": 4},
    x64=True,
)
