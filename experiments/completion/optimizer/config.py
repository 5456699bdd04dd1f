"""The configuration of ``completion-optimizer``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Connected 4 x 4 matrices, completed from one start by different optimizers."""

    seed: int = 410
    """Of the ground truths, the masks and the initial factors."""
    masks_per_size: int = 8
    """Masks for each of 17 pairs of a rank and a sample size around the recovery threshold."""
    init_std: float = 1e-4
    """Standard deviation of the initial factors."""
    step_factors: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0)
    """Steps of gradient descent, as multiples of the inverse of a bound on the curvature."""
    learning_rates: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Of gradient descent and of mini-batches; of the heavy ball, divided by 1 - momentum."""
    adam_rates: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """Learning rates of Adam."""
    momentum: float = 0.9
    """Of the heavy ball."""
    batch_share: float = 0.5
    """Probability with which an observed entry joins a mini-batch."""
    steps: int = 10_000
    """Of every optimizer, at most."""
    tolerance: float = 1e-16
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_count("masks_per_size", self.masks_per_size)
        require_each("init_std", [self.init_std], 1e-8, 1)
        require_each("step_factors", self.step_factors, 1e-3, 3)
        require_each("learning_rates", self.learning_rates, 1e-5, 1)
        require_each("adam_rates", self.adam_rates, 1e-5, 1)
        for name in ("step_factors", "learning_rates", "adam_rates"):
            values = getattr(self, name)
            increasing = len(values) >= 2 and list(values) == sorted(set(values))
            require(increasing, name, "at least two increasing numbers", values)
        require_each("momentum", [self.momentum], 1e-3, 1)
        require_each("batch_share", [self.batch_share], 1e-3, 1)
        require_count("steps", self.steps)
        require_positive("tolerance", self.tolerance)


EXPERIMENT = Experiment(
    name="completion-optimizer",
    study="completion",
    figure="-",
    summary="What large steps, momentum, Adam and mini-batches do to the bias of the flow",
    presets={
        "quick": Config(),
        "paper": Config(masks_per_size=40, steps=200_000),
    },
    minutes={"quick": 0.25, "paper": 3},
    x64=True,
)
