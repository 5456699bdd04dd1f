"""Configuration of ``spikes-digits``."""

from dataclasses import dataclass

from experiments.config import Adam, require, require_count, require_positive, require_seed
from experiments.experiment import Experiment

ADAM = Adam(learning_rate=0.01)


@dataclass(frozen=True)
class Config:
    """A convolutional network fits digits in mean squared error by full-batch Adam."""

    seeds: int = 16
    """Number of runs, one per seed."""
    first_seed: int = 0
    """The seeds are this one and the following; 1000 to 1023 served to choose the configuration."""
    images: int = 50
    """Number of images to fit, at most 1797."""
    steps: int = 600
    """Steps of training."""
    optimizer: Adam = ADAM
    """Hyper-parameters of Adam."""
    rise: float = 0.1
    """Decades by which the loss leaves its running minimum in a spike."""
    products: int = 9
    """Hessian-vector products for the largest eigenvalue of the preconditioned Hessian, each time
    it is measured."""
    plain_products: int = 3
    """The same for the Hessian itself, which moves slowly."""
    every: int = 5
    """Steps between two measurements of the largest eigenvalues."""
    shifts: int = 200
    """Random shifts of the alarms that give the precision of chance."""

    def __post_init__(self):
        for field in ("seeds", "images", "every", "shifts"):
            require_count(field, getattr(self, field))
        for field in ("products", "plain_products"):
            require_count(field, getattr(self, field), least=2)
        require(self.images <= 1797, "images", "at most 1797", self.images)
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)


EXPERIMENT = Experiment(
    name="spikes-digits",
    study="spikes",
    figure="SPIKE, a CNN on images",
    summary="The curvature along the gradient foretells loss spikes with fewer false alarms "
    "than the largest eigenvalue",
    presets={"quick": Config(), "paper": Config(seeds=64, steps=1000)},
    minutes={"quick": 0.8, "paper": 4.0},
)
