"""Configuration of ``spikes-layers``."""

from dataclasses import dataclass

from experiments.config import Adam, require, require_count, require_positive, require_seed
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """A tanh network with several hidden layers fits sin x + sin 4x by full-batch Adam."""

    seeds: int = 16
    """Number of runs, one per seed."""
    first_seed: int = 650
    """The seeds are this one and the following; 1000 to 1023 served to choose the configuration."""
    hidden: tuple[int, ...] = (20, 20)
    """Units of the hidden layers."""
    steps: int = 1200
    """Steps of training."""
    optimizer: Adam = Adam(learning_rate=0.01)
    """Hyper-parameters of Adam."""
    rise: float = 0.3
    """Decades by which the loss leaves its running minimum in a spike."""
    lasting: int = 5
    """Steps in a row on which g² < .1 v̂ in a layer that has decoupled."""
    products: int = 4
    """Hessian-vector products per measurement of the largest eigenvalue."""
    every: int = 10
    """Steps between two such measurements."""

    def __post_init__(self):
        for field in ("seeds", "lasting", "every"):
            require_count(field, getattr(self, field))
        # Two vectors are kept: with two products they would stay as they are.
        require_count("products", self.products, least=3)
        require(len(self.hidden) > 0, "hidden", "one layer or more", "none")
        for width in self.hidden:
            require_count("hidden", width)
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)


EXPERIMENT = Experiment(
    name="spikes-layers",
    study="spikes",
    figure="talk on SPIKE, gradients in certain layers",
    summary="Holding v in the layer of the unstable direction delays a loss spike more than "
    "holding it in all others; which layer decouples first does not say which layer that is",
    presets={"quick": Config(), "paper": Config(seeds=96, steps=2000, every=5)},
    minutes={"quick": 0.5, "paper": 3},
)
