"""The configuration of ``completion-disconnected``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """3 x 3 matrices of rank 1, five entries seen: a 2 x 2 block and a single entry."""

    seed: int = 320
    """Of the ground truths and the initial factors."""
    truths: int = 12
    """Ground truths for each of the nine masks."""
    starts: int = 16
    """Initial factors for each ground truth, scale and number of latent directions."""
    init_std: float = 1e-8
    """Standard deviation of the initial factors in the limit of small starts."""
    larger_std: float = 1e-4
    """A second standard deviation, for the rank alone."""
    steps: int = 2000
    """Runge-Kutta steps at most."""
    paths: int = 6
    """Ground truths for each mask whose way is followed from start to end."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_count("truths", self.truths)
        require_count("starts", self.starts)
        require_each("init_std", [self.init_std], 1e-16, 1e-6)
        require_each("larger_std", [self.larger_std], self.init_std, 1e-2)
        require_count("steps", self.steps)
        require(
            1 <= self.paths <= self.truths, "paths", f"in [1, truths = {self.truths}]", self.paths
        )


EXPERIMENT = Experiment(
    name="completion-disconnected",
    study="completion",
    figure="MF Fig. 4, 5a",
    summary="Between components the start decides: rank 2 on a line of solutions, unlike GLRL",
    presets={
        "quick": Config(),
        "paper": Config(truths=64, starts=64),
    },
    minutes={"quick": 0.2, "paper": 0.7},
    x64=True,
)
