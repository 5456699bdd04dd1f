"""The configuration of ``completion-connectivity``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """4 x 4 matrices of rank 1 to 3 from a few entries, by gradient flow from small starts."""

    seed: int = 207
    """Of the ground truths, the masks and the initial factors."""
    masks_per_size: int = 10
    """Masks for each of 17 pairs of a rank and a sample size around the recovery threshold."""
    sparse_masks: int = 590
    """Masks of 3 to 10 entries, most of the disconnected ones."""
    init_stds: tuple[float, ...] = (1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-8, 1e-16, 1e-30, 1e-120)
    """Standard deviations of the initial factors."""
    steps: int = 250_000
    """Runge-Kutta steps at most."""
    tolerance: float = 1e-20
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_count("masks_per_size", self.masks_per_size)
        # About one in six is complete bipartite: with 60, all classes are there.
        require(self.sparse_masks >= 60, "sparse_masks", "at least 60", self.sparse_masks)
        require_count("steps", self.steps)
        require_positive("tolerance", self.tolerance)
        # The squares of smaller numbers are not normal numbers in double precision any more.
        require_each("init_stds", self.init_stds, 1e-140, 10)
        distinct = len(set(self.init_stds)) == len(self.init_stds)
        require(distinct, "init_stds", "different numbers", self.init_stds)

    @property
    def small_start(self) -> int:
        """Place of the largest standard deviation up to 1e-8, where the classes are compared."""
        small = [std for std in self.init_stds if std <= 1e-8]
        return self.init_stds.index(max(small, default=min(self.init_stds)))

    @property
    def smallest_start(self) -> int:
        """Place of the smallest standard deviation."""
        return self.init_stds.index(min(self.init_stds))


EXPERIMENT = Experiment(
    name="completion-connectivity",
    study="completion",
    figure="MF Fig. 1",
    summary="Connected data lead to low rank, complete bipartite data to low nuclear norm",
    presets={
        "quick": Config(),
        "paper": Config(masks_per_size=40, sparse_masks=3960, steps=2_000_000),
    },
    minutes={"quick": 0.5, "paper": 3},
    x64=True,
)
