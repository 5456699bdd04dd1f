"""Configuration of ``spikes-sine``."""

from dataclasses import dataclass

from experiments.config import Adam, require_count, require_positive, require_seed
from experiments.experiment import Experiment

ADAM = Adam(learning_rate=0.01)


@dataclass(frozen=True)
class Config:
    """A tanh network fits sin x + sin 4x in mean squared error by full-batch Adam."""

    seeds: int = 32
    """Number of runs, one per seed of the initial parameters."""
    first_seed: int = 300
    """The seeds are this one and the following; those from 1000 on served to choose the rest."""
    width: int = 20
    """Units of the hidden layer."""
    points: int = 100
    """Points to fit, evenly spaced on [-π, π]."""
    steps: int = 5000
    """Steps of training."""
    optimizer: Adam = ADAM
    """Hyper-parameters of Adam."""
    rise: float = 0.1
    """Decades by which the loss leaves its running minimum in a spike."""
    products: int = 3
    """Hessian-vector products per step for the largest eigenvalue of the preconditioned Hessian."""
    shifts: int = 50
    """Random shifts of the alarms that give the scores of chance."""

    def __post_init__(self):
        for field in ("seeds", "width", "points", "shifts"):
            require_count(field, getattr(self, field))
        require_count("products", self.products, least=2)
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)


EXPERIMENT = Experiment(
    name="spikes-sine",
    study="spikes",
    figure="SPIKE, a network on a one-dimensional target",
    summary="A network of 20 units spikes every few hundred steps, each time after the curvature "
    "along the gradient has crossed 2/η",
    presets={"quick": Config(), "paper": Config(seeds=512)},
    minutes={"quick": 0.4, "paper": 1.5},
)
