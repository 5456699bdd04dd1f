"""Configuration of ``spikes-explanations``."""

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


@dataclass(frozen=True)
class Network:
    """A tanh network with one hidden layer, its target and its training."""

    width: int = 20
    """Units of the hidden layer."""
    steps: int = 3500
    """Steps of training."""
    optimizer: Adam = Adam(learning_rate=0.01)
    """Hyper-parameters of Adam."""

    def __post_init__(self):
        require_count("width", self.width)
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)


SINE = Network()
DEEP = Network(steps=500, optimizer=Adam(learning_rate=0.02, b2=0.99))
FREQUENT = Network(width=10, steps=1500, optimizer=Adam(learning_rate=0.05))


@dataclass(frozen=True)
class Config:
    """Full-batch Adam on two functions; each run is repeated under other rules for v."""

    seeds: int = 16
    """Number of runs, one per seed."""
    first_seed: int = 600
    """The seeds are this one and the following; 1000 to 1015 served to choose the configuration."""
    networks: tuple[str, ...] = ("sine",)
    """Which networks to train: sine, deep, frequent."""
    sine: Network = SINE
    """On sin x + sin 4x: many spikes of less than a decade."""
    deep: Network = DEEP
    """On a quadratic function of 50 variables: one spike of more than ten decades."""
    frequent: Network = FREQUENT
    """On the same function, with larger steps and a longer memory: some ten spikes."""
    rise: float = 0.1
    """Decades by which the loss leaves its running minimum in a spike."""
    every: int = 10
    """Steps between two measurements of the eigenvalues."""
    products: int = 4
    """Hessian-vector products per eigenvalue and measurement."""

    def __post_init__(self):
        for field in ("seeds", "every"):
            require_count(field, getattr(self, field))
        # Two vectors are kept: with two products they would stay as they are.
        require_count("products", self.products, least=3)
        require_each("every", [self.every], 1, 50)
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)
        known = ("sine", "deep", "frequent")
        require(len(self.networks) > 0, "networks", "at least one of " + ", ".join(known), "none")
        for name in self.networks:
            require(name in known, "networks", "among " + ", ".join(known), name)


EXPERIMENT = Experiment(
    name="spikes-explanations",
    study="spikes",
    figure="SPIKE, the two explanations",
    summary="Loss spikes come from the decay of Adam's preconditioner, not from a sharper "
    "landscape: what each adds to the curvature, and runs with either held fixed",
    presets={
        "quick": Config(),
        "paper": Config(seeds=64, networks=("sine", "deep", "frequent"), every=5),
    },
    minutes={"quick": 0.5, "paper": 8},
    x64=True,
)
