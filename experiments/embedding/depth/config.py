"""The configuration of ``embedding-depth``."""

import math
from dataclasses import dataclass, field

from experiments.config import (
    Adam,
    require,
    require_count,
    require_each,
    require_positive,
    require_seed,
)
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Petal widths of irises from their other three measures, by shallow and by deep networks."""

    seed: int = 640
    """Of the subsets of flowers, the starts, the lifts and the drawn units."""
    subsets: int = 10
    """Data sets of the shallow networks, random subsets of the 150 flowers."""
    flowers: int = 24
    """Flowers in each of them."""
    starts: int = 6
    """Starts of the search for critical points, on each data set, for each activation."""
    descent_steps: tuple[float, ...] = (2.0, math.inf)
    """Newton steps that go down in the loss before those down in the gradient: infinite for minima,
    few for saddles. Every start is used with each."""
    steps: int = 100
    """Newton steps, at most."""
    bound: float = 100.0
    """Norm of the parameters up to which a critical point is accepted."""
    kink_distance: float = 1e-4
    """Least distance of a pre-activation from the kink of ELU or leaky ReLU, at points lifted."""
    eps: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """Sizes of the approximate lifts of tanh networks, in units of what the new layer reads."""
    orders: int = 12
    """Orders in which the flowers are added, for the shrinking set of lifts."""
    units: int = 800
    """Random units drawn for each order."""
    deep_seeds: int = 12
    """Deep networks that are trained, without and with batch normalisation."""
    deep_steps: int = 150
    """Steps of their training."""
    optimizer: Adam = field(default_factory=lambda: Adam(learning_rate=0.005))
    """Of the deep networks."""
    tolerance: float = 0.1
    """Largest departure from an affine map at which a layer of theirs is pruned."""

    def __post_init__(self):
        require_seed("seed", self.seed)
        for name in ("subsets", "starts", "steps", "units", "deep_steps"):
            require_count(name, getattr(self, name))
        for name in ("orders", "deep_seeds"):
            require_count(name, getattr(self, name), 5)
        require(12 <= self.flowers <= 150, "flowers", "in [12, 150]", self.flowers)
        for name in ("bound", "kink_distance", "tolerance"):
            require_positive(name, getattr(self, name))
        require(len(self.descent_steps) > 0, "descent_steps", "at least one number", "none")
        for steps in self.descent_steps:
            require(steps >= 0, "descent_steps", "at least 0", steps)
        require_each("eps", self.eps, 1e-5, 1e-1)
        require(len(set(self.eps)) >= 3, "eps", "three or more different numbers", self.eps)


EXPERIMENT = Experiment(
    name="embedding-depth",
    study="embedding",
    figure="EP-d",
    summary="A critical point lifted by 1-3 layers stays one, and gains zero eigenvalues alone",
    presets={
        "quick": Config(),
        "paper": Config(subsets=32, starts=16, steps=200, orders=64, units=20_000, deep_seeds=48),
    },
    minutes={"quick": 0.4, "paper": 2},
    x64=True,
)
