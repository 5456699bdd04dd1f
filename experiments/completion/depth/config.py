"""The configuration of ``completion-depth``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Connected 4 x 4 matrices, completed by products of 2, 3 and 4 factors."""

    seed: int = 510
    """Of the ground truths, the masks and the initial factors."""
    masks_per_size: int = 10
    """Masks for each of 17 pairs of a rank and a sample size around the recovery threshold."""
    init_std: float = 3e-2
    """Standard deviation of the initial factors, at every depth."""
    small_std: float = 1e-3
    """A smaller one, at depths 2 and 3; four factors would stay at their plateaus for too long."""
    steps: int = 2000
    """Runge-Kutta-Chebyshev steps at most; each is 65 gradients."""
    tolerance: float = 1e-14
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_count("masks_per_size", self.masks_per_size)
        require_each("init_std", [self.init_std], 1e-4, 1)
        # Two factors then have a product that starts no larger than three from init_std.
        require_each("small_std", [self.small_std], 1e-6, self.init_std**1.5)
        require_count("steps", self.steps)
        require_positive("tolerance", self.tolerance)


EXPERIMENT = Experiment(
    name="completion-depth",
    study="completion",
    figure="Arora et al. 2019",
    summary="The deeper the factorization, the lower the rank it finds",
    presets={
        "quick": Config(),
        "paper": Config(masks_per_size=40, steps=20_000),
    },
    minutes={"quick": 0.2, "paper": 3},
    x64=True,
)
