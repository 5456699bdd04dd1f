"""The configuration of ``completion-data``."""

from dataclasses import dataclass
from typing import Literal

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Photograph:
    """What is completed when no file is given: a grey photograph of which few pixels are seen."""

    name: Literal["china", "flower"] = "china"
    """Which of the two photographs that come with scikit-learn."""
    height: int = 64
    """Pixels; the width is half as much again."""
    observed: float = 0.3
    """Share of the pixels that are seen; the others measure the error."""

    def __post_init__(self):
        require(8 <= self.height <= 426, "height", "in [8, 426]", self.height)
        require(0 < self.observed < 1, "observed", "in (0, 1)", self.observed)


@dataclass(frozen=True)
class Config:
    """Entries of a matrix, from a file or a photograph, completed from a small start."""

    file: str | None = None
    """CSV, TSV or NPZ of row, column, value or of a matrix with gaps; MovieLens' u.data, \
ratings.csv, ratings.dat. A photograph by default."""
    layout: Literal["auto", "entries", "matrix"] = "auto"
    """Whether a CSV or TSV lists entries or is a matrix; by default as it looks."""
    photograph: Photograph = Photograph()
    """What is completed without a file."""
    seed: int = 417
    """Of the division of the entries, and of the initial factors."""
    held_out: float = 0.1
    """Share of the entries that choose when to stop. Of a file as many again measure the error."""
    center: bool = True
    """Subtract the mean first; rows and columns without entries are then predicted by it, not 0."""
    inner_width: int | None = None
    """Columns of the first factor; by default the smaller side of the matrix, 256 at most."""
    init_std: float = 1e-4
    """Standard deviation of the initial factors; the data are scaled to a root mean square of 1."""
    large_std: float = 1.0
    """The same for a second, large start."""
    steps: int = 2000
    """Steps of gradient descent at most."""
    patience: float = 2.0
    """A run ends when this many times the steps to its least held-out error bring no lower one."""
    comparison_limit: int = 10_000
    """Entries of the largest matrix that also has a large start and the convex solution."""

    def __post_init__(self):
        require(0 <= self.seed < 2**32, "seed", "in [0, 2**32)", self.seed)
        require(0 < self.held_out < 0.5, "held_out", "in (0, 0.5)", self.held_out)
        if self.inner_width is not None:
            require_count("inner_width", self.inner_width)
        require_each("init_std", [self.init_std], 1e-16, 1)
        require_positive("large_std", self.large_std)
        require(self.large_std > self.init_std, "large_std", "above --init-std", self.large_std)
        require_count("steps", self.steps)
        require_positive("patience", self.patience)
        require_count("comparison_limit", self.comparison_limit, least=0)


EXPERIMENT = Experiment(
    name="completion-data",
    study="completion",
    figure="real data",
    summary="Your own matrix completed, beside the convex solution; a photograph by default",
    presets={
        "quick": Config(),
        "paper": Config(photograph=Photograph(height=128), comparison_limit=25_000),
    },
    minutes={"quick": 0.15, "paper": 0.7},
    x64=True,
)
