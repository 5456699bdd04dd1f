"""Configuration of ``spikes-sweep``."""

import itertools
from dataclasses import dataclass

from experiments.config import (
    Adam,
    require,
    require_count,
    require_each,
    require_positive,
    require_seed,
)
from experiments.experiment import Experiment

POINTS = 100
"""Of the function, evenly spaced: the full batch."""

MIDDLE_B2 = 0.99
"""A memory of v that is longer than that of the momentum, and much shorter than the training."""


@dataclass(frozen=True)
class Config:
    """A tanh network fits sin x + sin 4x; every axis passes through one common configuration."""

    seeds: int = 8
    """Number of runs of each point, one per seed."""
    first_seed: int = 700
    """The seeds are this one and the following; 1000 to 1007 served to choose the configuration."""
    optimizer: Adam = Adam(learning_rate=0.01)
    """The common configuration of Adam."""
    width: int = 20
    """The common width: units of each hidden layer."""
    steps: int = 3000
    """Steps of training."""
    learning_rates: tuple[float, ...] = (0.002, 0.005, 0.01, 0.02, 0.05)
    """Values of η, with all b2s; increasing, as on every axis, and the common value among them."""
    b2s: tuple[float, ...] = (0.9, 0.95, 0.99, 0.995, 0.999, 0.9995)
    """Values of β2, with all learning_rates; 0.99 lies between the first and the last."""
    b1s: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, 0.95)
    """Values of β1, with all epsilons."""
    epsilons: tuple[float, ...] = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1)
    """Values of ε, with all b1s."""
    batches: tuple[int, ...] = (25, 50, 90, 98, 100)
    """Points per step, of 100."""
    widths: tuple[int, ...] = (5, 10, 20, 40)
    """Units of the one hidden layer."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Hidden layers."""
    rise: float = 0.3
    """Decades by which the loss leaves its running minimum in a spike."""

    def __post_init__(self):
        for field in ("seeds", "width"):
            require_count(field, getattr(self, field))
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)
        for field in ("b1s", "b2s"):
            require_each(field, getattr(self, field), 0, 1)
        for field in ("learning_rates", "epsilons"):
            require(len(getattr(self, field)) > 0, field, "at least one number", "none")
            for value in getattr(self, field):
                require_positive(field, value)
        require_each("batches", self.batches, 1, POINTS + 1)
        for field in ("widths", "depths"):
            require_each(field, getattr(self, field), 1, 2**31)
        common = {
            "learning_rates": ("--optimizer.learning-rate, ", self.optimizer.learning_rate),
            "b2s": ("--optimizer.b2, ", self.optimizer.b2),
            "b1s": ("--optimizer.b1, ", self.optimizer.b1),
            "epsilons": ("--optimizer.eps, ", self.optimizer.eps),
            "batches": ("the full batch, ", POINTS),
            "widths": ("--width, ", self.width),
            "depths": ("", 1),
        }
        for field, (name, value) in common.items():
            axis = getattr(self, field)
            increasing = all(low < high for low, high in itertools.pairwise(axis))
            wanted = f"increasing numbers, {name}{value:g}, among them"
            require(increasing and value in axis, field, wanted, axis)
        between = f"numbers with {MIDDLE_B2:g} between the first and the last"
        require(MIDDLE_B2 in self.b2s[1:-1], "b2s", between, self.b2s)


EXPERIMENT = Experiment(
    name="spikes-sweep",
    study="spikes",
    figure="none; maps over all that SPIKE varies",
    summary="Number and height of Adam's loss spikes over η, β1, β2, ε, batch size, width, depth",
    presets={
        "quick": Config(),
        "paper": Config(seeds=32, steps=5000, depths=(1, 2, 3, 4), widths=(5, 10, 20, 40, 80)),
    },
    minutes={"quick": 0.5, "paper": 6},
)
