"""The configuration of ``completion-connectivity``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """4 x 4 matrices of rank 1 to 3 from a few entries, by gradient flow from a small start."""

    seed: int = 100
    """Of the ground truths, the masks and the initial factors."""
    masks_per_size: int = 10
    """Masks for each of 17 pairs of a rank and a sample size around the recovery threshold."""
    sparse_masks: int = 990
    """Masks of 3 to 10 entries, most of the disconnected ones."""
    init_std: float = 1e-8
    """Standard deviation of the initial factors. Plain double precision is right down to 1e-16."""
    rate_stds: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    """Standard deviations from which the rate of the nuclear excess is measured."""
    steps: int = 50_000
    """Runge-Kutta steps at most."""
    tolerance: float = 1e-24
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_count("masks_per_size", self.masks_per_size)
        # About one in six is complete bipartite: with 60, all classes are there.
        require(self.sparse_masks >= 60, "sparse_masks", "at least 60", self.sparse_masks)
        require_count("steps", self.steps)
        require_positive("tolerance", self.tolerance)
        require_each("init_std", [self.init_std], 1e-16, 1)
        require_each("rate_stds", self.rate_stds, 1e-6, 1)
        distinct = len(set(self.rate_stds))
        require(distinct >= 2, "rate_stds", "at least two different numbers", self.rate_stds)


EXPERIMENT = Experiment(
    name="completion-connectivity",
    study="completion",
    figure="MF Fig. 1",
    summary="Connected data lead to low rank, complete bipartite data to low nuclear norm",
    presets={
        "quick": Config(),
        "paper": Config(masks_per_size=40, sparse_masks=3960, steps=200_000),
    },
    minutes={"quick": 0.4, "paper": 1.5},
    x64=True,
)
