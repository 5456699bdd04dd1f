"""The configuration of ``embedding-digits``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_positive, require_seed
from experiments.experiment import Experiment

IMAGES = 1797
"""As many digits as there are."""


@dataclass(frozen=True)
class Config:
    """Odd or even: a wide ReLU network on real digits of 8 x 8 pixels, in mean squared error."""

    first_seed: int = 760
    """Of the initial parameters of the first run."""
    seeds: int = 8
    """Runs of each start."""
    images: int = 300
    """Digits to train on; the others are held out."""
    width: int = 64
    """Units of the wide network."""
    init_std: float = 1e-6
    """Standard deviation of the condensing start."""
    learning_rate: float = 0.1
    """Step size of gradient descent with momentum."""
    momentum: float = 0.9
    """Of gradient descent."""
    steps: int = 1500
    """Steps of each run."""
    angle: float = 0.5
    """Largest angle between two input weights of a cluster, in radians."""

    def __post_init__(self):
        require_seed("first_seed", self.first_seed)
        require_count("seeds", self.seeds)
        require(50 <= self.images < IMAGES, "images", f"in [50, {IMAGES})", self.images)
        require_count("width", self.width, least=2)
        require_positive("init_std", self.init_std)
        require_positive("learning_rate", self.learning_rate)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        require_count("steps", self.steps, least=20)
        require(0 < self.angle < 1.5, "angle", "in (0, 1.5)", self.angle)


EXPERIMENT = Experiment(
    name="embedding-digits",
    study="embedding",
    figure="EP, reduction of a condensed network",
    summary="A wide network on real digits condenses, and is a narrow one",
    presets={"quick": Config(), "paper": Config(seeds=16, images=1000, width=256, steps=4000)},
    minutes={"quick": 0.4, "paper": 8},
    x64=True,
)
