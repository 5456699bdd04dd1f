"""Configuration of ``embedding-plateaus``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive, require_seed
from experiments.embedding.search import Search
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Wide tanh networks on random staircases, by gradient descent with momentum."""

    seed: int = 600
    """Of the initial parameters; the targets are those of this seed and the following ones. Seeds
    from 1000 on served to choose the configuration."""
    targets: int = 24
    """Random functions with three steps, of mean 0 and variance 1."""
    keys: int = 3
    """Condensing starts for each target. Of the two other starts each target has one."""
    units: int = 24
    """Hidden units of the wide networks."""
    learning_rate: float = 0.04
    """Step size, in the scaling in which networks of every width move alike."""
    momentum: float = 0.95
    """Of gradient descent (heavy ball). Slow motions follow gradient flow, at learning_rate /
    (1 - momentum) units of its time per step."""
    steps: int = 16_000
    """Steps from a condensing start, and from the Gaussian one."""
    leader_steps: int = 32_000
    """Steps from a condensing start with one unit ahead: more, as it leaves saddle after saddle."""
    every: int = 50
    """Steps between two records."""
    output_scale: float = 1e-2
    """Sum of the absolute output weights at a condensing start; they are equal but for the sign."""
    input_std: float = 1e-14
    """Standard deviation there of input weights and biases. The smaller, the longer a plateau."""
    leader_std: float = 1e-5
    """Standard deviation of the input weight and bias of the unit that is ahead."""
    gaussian_std: float = 1e-6
    """Standard deviation of all parameters at the Gaussian start."""
    minima: Search = Search(seed=600, seeds=8, steps=100)
    """How minima of networks of one and two units are searched."""
    saddles: Search = Search(seed=600, seeds=32, steps=100, descent_steps=4.0)
    """How saddles of networks of two units are searched."""

    def __post_init__(self):
        require_seed("seed", self.seed)
        for field in ("targets", "keys", "every"):
            require_count(field, getattr(self, field))
        require_count("units", self.units, least=3)
        for field in ("steps", "leader_steps"):
            require_count(field, getattr(self, field), least=3 * self.every)
        require_positive("learning_rate", self.learning_rate)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        for field in ("output_scale", "input_std", "leader_std", "gaussian_std"):
            require_each(field, [getattr(self, field)], 1e-200, 10)


EXPERIMENT = Experiment(
    name="embedding-plateaus",
    study="embedding",
    figure="EP Fig. 1",
    summary="A condensing wide network rests at the critical points of one and of two units",
    presets={
        "quick": Config(),
        "paper": Config(targets=64, keys=4, units=48, steps=40_000, leader_steps=80_000, every=100),
    },
    minutes={"quick": 0.6, "paper": 8},
    x64=True,
)
