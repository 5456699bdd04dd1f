"""Configuration of ``spikes-sequence``."""

from dataclasses import dataclass
from typing import Literal

from experiments.config import Adam, require, require_count, require_positive, require_seed
from experiments.experiment import Experiment

FAST, PAPER = Adam(learning_rate=0.01), Adam(learning_rate=0.005)


@dataclass(frozen=True)
class Config:
    """A causal transformer learns the anchor task by Adam on mini-batches."""

    seeds: int = 5
    """Number of runs, one per seed, all on the same sequences."""
    first_seed: int = 400
    """The seeds are this one and the following; 100 to 304 and 1000 to 1043 served to choose."""
    sequences: int = 512
    """Number of sequences of 8 tokens to fit."""
    batch_size: int = 96
    """Sequences per step, drawn with replacement."""
    layers: int = 2
    """Blocks of attention and feed-forward layer."""
    width: int = 32
    """Width of the residual stream, a multiple of 4, the number of heads."""
    norm: Literal["pre", "post", "none"] = "pre"
    """Where layers are normalised."""
    smoothing: float = 0.1
    """Share of every label that is spread over all 64 tokens."""
    steps: int = 1000
    """Steps of training."""
    every: int = 2
    """Steps between two measurements of curvature; its mean over 10 steps is what counts."""
    optimizer: Adam = FAST
    """Hyper-parameters of Adam."""
    rise: float = 0.3
    """Decades by which the 10-step mean of the loss leaves its running minimum in a spike."""
    height: float = 1.0
    """Decades of a spike that counts as high, the ones that the claims are about."""
    shifts: int = 200
    """Random shifts of the alarms that give the precision of chance."""

    def __post_init__(self):
        for field in ("seeds", "sequences", "batch_size", "layers", "width", "shifts"):
            require_count(field, getattr(self, field))
        require(self.width % 4 == 0, "width", "a multiple of 4", self.width)
        require(
            self.batch_size <= self.sequences,
            "batch_size",
            f"at most sequences = {self.sequences}",
            self.batch_size,
        )
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)
        require(1 <= self.every <= 10, "every", "in [1, 10]", self.every)
        require_seed("first_seed", self.first_seed)
        require(0 <= self.smoothing < 1, "smoothing", "in [0, 1)", self.smoothing)
        for field in ("rise", "height"):
            require_positive(field, getattr(self, field))


EXPERIMENT = Experiment(
    name="spikes-sequence",
    study="spikes",
    figure="SPIKE, a transformer on sequences",
    summary="On mini-batches the curvature along the gradient, averaged over ten steps, passes 2/η "
    "before the loss peaks",
    presets={
        "quick": Config(),
        "paper": Config(
            layers=8, width=64, batch_size=64, steps=2000, optimizer=PAPER, every=1, height=1.5
        ),
    },
    minutes={"quick": 0.6, "paper": 25.0},
)
