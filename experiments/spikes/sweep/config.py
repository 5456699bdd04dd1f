"""Configuration of ``spikes-sweep``."""

from dataclasses import dataclass

from experiments.config import Adam, require, require_count, require_each, require_positive
from experiments.experiment import Experiment


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
    """Values of η, with all b2s."""
    b2s: tuple[float, ...] = (0.9, 0.95, 0.99, 0.995, 0.999, 0.9995)
    """Values of β2, with all learning_rates."""
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
        require(0 <= self.first_seed < 2**31, "first_seed", "in [0, 2**31)", self.first_seed)
        require_positive("rise", self.rise)
        for field in ("b1s", "b2s"):
            require_each(field, getattr(self, field), 0, 1)
        for field in ("learning_rates", "epsilons"):
            require(len(getattr(self, field)) > 0, field, "at least one number", "none")
            for value in getattr(self, field):
                require_positive(field, value)
        require_each("batches", self.batches, 1, 101)
        for field in ("widths", "depths"):
            require_each(field, getattr(self, field), 1, 2**31)


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
