"""The configuration of ``embedding-modules``."""

from dataclasses import dataclass

from experiments.config import require_count, require_positive, require_seed
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Planted critical points of a convolutional network and a transformer, embedded."""

    seed: int = 741
    """Of the parameters, the residuals and the draws of embeddings."""
    bases: int = 12
    """Critical points of each network, each with targets of its own."""
    draws: int = 1
    """Splits of each base and kind of unit, at a random unit and share α."""
    residual: float = 0.5
    """Root mean square of the residuals at the critical points."""
    steps: int = 3
    """Steps of gradient descent that start at the critical points, to see that they stay."""
    learning_rate: float = 1e-3
    """Of these steps."""

    def __post_init__(self):
        require_seed("seed", self.seed)
        require_count("bases", self.bases)
        require_count("draws", self.draws)
        require_positive("residual", self.residual)
        require_count("steps", self.steps)
        require_positive("learning_rate", self.learning_rate)


EXPERIMENT = Experiment(
    name="embedding-modules",
    study="embedding",
    figure="EP, beyond fully connected networks",
    summary="Channels, attention heads and feed-forward units split as neurons do",
    presets={"quick": Config(), "paper": Config(bases=32, draws=8)},
    minutes={"quick": 0.6, "paper": 2},
    x64=True,
)
