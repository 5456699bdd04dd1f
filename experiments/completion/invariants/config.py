"""The configuration of ``completion-invariants``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """4 x 4 factorizations from six kinds of starts, under three losses of the observed entries."""

    seed: int = 310
    """Of the ground truths, the masks, the starts and the rotations."""
    masks: int = 80
    """Random masks, each trained from every kind of start under every loss."""
    placed: int = 48
    """Instances placed on each of Ω_1 and Ω_2, trained in three bases."""
    rotated_std: float = 1e-30
    """Standard deviation of the factors before they are placed there."""
    steps: int = 1000
    """Runge-Kutta steps of all trainings but the long one."""
    long_placed: int = 20
    """Instances placed on each of Ω_1, Ω_2 and Ω_3 for the long training."""
    long_steps: int = 100_000
    """Runge-Kutta steps of the long training, in the aligned basis."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_count("masks", self.masks)
        require_count("placed", self.placed)
        require_each("rotated_std", [self.rotated_std], 1e-100, 1)
        # As many as the rotated basis needs to lose the manifold.
        require_count("steps", self.steps, least=1000)
        require_count("long_placed", self.long_placed)
        require_count("long_steps", self.long_steps)


EXPERIMENT = Experiment(
    name="completion-invariants",
    study="completion",
    figure="MF section 4",
    summary="Rank and balance of the factors are conserved for every mask and every loss",
    presets={
        "quick": Config(),
        "paper": Config(masks=400, placed=200, steps=4000, long_placed=100),
    },
    minutes={"quick": 0.2, "paper": 0.6},
    x64=True,
)
