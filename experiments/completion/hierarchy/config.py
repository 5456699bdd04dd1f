"""The configuration of ``completion-hierarchy``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """4 x 4 matrices of rank 3 with one entry hidden, by gradient flow from a tiny start."""

    seed: int = 320
    """Of the ground truths and the initial factors."""
    draws: int = 20
    """Ground truths for each of the 16 masks with one hidden entry."""
    spectrum: tuple[float, ...] = (10.0, 3.0, 1.0)
    """Singular values of the ground truths, largest first; their bases are random."""
    init_std: float = 1e-30
    """Standard deviation of the initial factors, for the plateaus."""
    stds: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-4, 1e-8, 1e-30)
    """Standard deviations from which the rank of the solution is compared."""
    stds_draws: int = 5
    """Ground truths for each mask in that comparison, the first of those above, or all of them."""
    history_steps: int = 8000
    """Runge-Kutta steps whose history is recorded, to find the plateaus in."""
    every: int = 16
    """Steps between two records of the history."""
    steps: int = 600_000
    """Runge-Kutta steps to a solution, at most. The 3 x 3 minor opposite the hidden entry
    determines it; where the minor is small, the time to find it grows as the inverse square."""
    stds_steps: int = 100_000
    """The same where the rank is compared."""
    tolerance: float = 1e-24
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        for field in ("draws", "stds_draws", "history_steps", "every", "steps", "stds_steps"):
            require_count(field, getattr(self, field))
        require_positive("tolerance", self.tolerance)
        require_each("init_std", [self.init_std], 1e-120, 1)
        require_each("stds", self.stds, 1e-120, 10)
        require(len(set(self.stds)) >= 2, "stds", "at least two different numbers", self.stds)
        require(len(self.spectrum) == 3, "spectrum", "three numbers", self.spectrum)
        require_each("spectrum", self.spectrum, 1e-3, 1e3)
        falling = all(a > b for a, b in zip(self.spectrum, self.spectrum[1:], strict=False))
        require(falling, "spectrum", "falling", self.spectrum)


EXPERIMENT = Experiment(
    name="completion-hierarchy",
    study="completion",
    figure="MF Fig. 3, 5b",
    summary="From a tiny start the flow rests at the best fits of rank 1, 2, ... in turn",
    presets={
        "quick": Config(),
        "paper": Config(draws=128, stds_draws=32, every=8, steps=4_000_000),
    },
    minutes={"quick": 0.3, "paper": 3},
    x64=True,
)
