"""Configuration of ``spikes-mnist``."""

from dataclasses import dataclass

from experiments.config import Adam, require, require_count, require_positive, require_seed
from experiments.experiment import Experiment

ADAM = Adam(learning_rate=0.01)


@dataclass(frozen=True)
class Config:
    """A convolutional network fits images in mean squared error by Adam."""

    seeds: int = 6
    """Number of runs, one per seed."""
    first_seed: int = 100
    """The seeds are this one and the following; 1000 to 1005 served to choose the configuration."""
    cifar: str | None = None
    """Folder with the files of CIFAR-10's binary version, to train on in place of MNIST."""
    images: int = 50
    """Number of images to fit, at most 5000 of MNIST."""
    window: int = 2
    """Side of the squares of pixels that are averaged into one; 1 leaves the images as they are."""
    batch_size: int | None = None
    """Images of a mini-batch; without it every step sees all of them."""
    steps: int = 600
    """Steps of training."""
    optimizer: Adam = ADAM
    """Hyper-parameters of Adam."""
    rise: float = 0.1
    """Decades by which the loss leaves its running minimum in a spike."""
    products: int = 10
    """Hessian-vector products for the largest eigenvalue of the preconditioned Hessian, and of the
    Hessian itself, each time they are measured."""
    every: int = 20
    """Steps between two measurements of the largest eigenvalues."""
    shifts: int = 200
    """Random shifts of the alarms that give the precision of chance."""

    def __post_init__(self):
        for field in ("seeds", "images", "window", "every", "shifts"):
            require_count(field, getattr(self, field))
        require_count("products", self.products, least=2)
        if self.cifar is None:
            require(self.images <= 5000, "images", "at most 5000", self.images)
        # Images of 28 pixels, pooled twice.
        require(self.window <= 7, "window", "at most 7", self.window)
        if self.batch_size is not None:
            require_count("batch_size", self.batch_size)
            require(
                self.batch_size <= self.images,
                "batch_size",
                f"at most {self.images}, the number of images",
                self.batch_size,
            )
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)


EXPERIMENT = Experiment(
    name="spikes-mnist",
    study="spikes",
    figure="SPIKE, a CNN on images",
    summary="The curvature along the gradient foretells the loss spikes of a CNN on MNIST, or "
    "on CIFAR-10 from files of one's own",
    presets={
        "quick": Config(),
        "paper": Config(seeds=16, images=200, window=1, steps=1000),
    },
    minutes={"quick": 0.6, "paper": 20.0},
)
