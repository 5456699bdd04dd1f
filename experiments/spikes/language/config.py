"""Configuration of ``spikes-language``."""

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
    """Sizes of the decoder; its vocabulary is that of the text."""

    width: int = 64
    """Width of the residual stream."""
    layers: int = 2
    """Number of blocks."""
    heads: int = 4
    """Attention heads per block; they divide the width into even parts."""
    hidden: int = 128
    """Width of the feed-forward layer."""
    length: int = 64
    """Bytes of text that the model reads at once."""

    def __post_init__(self):
        for field in ("width", "layers", "heads", "hidden", "length"):
            require_count(field, getattr(self, field))
        parts = f"a divisor of --network.width, {self.width}, into even parts"
        require(self.width % (2 * self.heads) == 0, "heads", parts, self.heads)


@dataclass(frozen=True)
class Config:
    """A decoder learns passages of real text, byte by byte, with Adam on mini-batches."""

    file: str | None = None
    """Any file with text, of any encoding. Python's own help topics by default."""
    sequences: int = 32
    """Passages of the text that are learned."""
    network: Network = Network()
    """Sizes of the decoder."""
    batch_size: int = 8
    """Passages per step, drawn with replacement."""
    micro_batches: int = 1
    """Parts into which a batch is divided for lack of memory."""
    remat: bool = False
    """Compute the activations of a block again where the gradient needs them."""
    smoothing: float = 0.1
    """Label smoothing: the share of a label's probability that is spread over the vocabulary."""
    optimizer: Adam = Adam(learning_rate=0.01)
    """Hyper-parameters of Adam; there is no warm-up."""
    steps: int = 700
    """Steps of training."""
    seeds: int = 3
    """Number of runs, one per seed."""
    first_seed: int = 700
    """The seeds are this one and the following; 640 to 644 and 1000 to 1012 served to choose the
    configurations."""
    every: int = 2
    """Steps between two measurements of curvature."""
    other_b2: tuple[float, ...] = (0.99, 0.95)
    """Other decays of the second moment, to compare with; only the loss is recorded for them."""
    other_seeds: int = 0
    """Number of runs, one per seed, for each of the other decays; 0 leaves them out."""
    rise: float = 0.3
    """Decades by which the loss above its floor, averaged over 10 steps, leaves its running
    minimum in a spike."""
    shifts: int = 200
    """Random shifts of the alarms that give the precision of chance."""

    def __post_init__(self):
        counts = ("sequences", "batch_size", "micro_batches", "seeds", "every", "shifts")
        for field in counts:
            require_count(field, getattr(self, field))
        most = f"at most --sequences, {self.sequences}"
        require(self.batch_size <= self.sequences, "batch_size", most, self.batch_size)
        divisor = f"a divisor of --batch-size, {self.batch_size}"
        require(
            self.batch_size % self.micro_batches == 0, "micro_batches", divisor, self.micro_batches
        )
        require(0 <= self.smoothing < 1, "smoothing", "in [0, 1)", self.smoothing)
        # Before step 50, where the spike detector begins, nothing can be claimed.
        require_count("steps", self.steps)
        require_seed("first_seed", self.first_seed)
        require_count("other_seeds", self.other_seeds, least=0)
        require(self.other_seeds <= self.seeds, "other_seeds", "at most --seeds", self.other_seeds)
        if self.other_seeds:
            require_each("other_b2", self.other_b2, 0, 1)
            own = self.optimizer.b2
            distinct = len({*self.other_b2, own}) == len(self.other_b2) + 1
            numbers = f"distinct numbers other than --optimizer.b2, {own:g}"
            require(distinct, "other_b2", numbers, self.other_b2)
        require_positive("rise", self.rise)


LARGE = Config(
    network=Network(width=1024, layers=14, heads=16, hidden=2976, length=1024),
    sequences=256,
    batch_size=32,
    micro_batches=8,
    remat=True,
    optimizer=Adam(learning_rate=1e-3),
    steps=5000,
    seeds=1,
    every=10,
)
"""187 million parameters, for an accelerator with 20 GiB or more."""

EXPERIMENT = Experiment(
    name="spikes-language",
    study="spikes",
    figure="SPIKE, language models",
    summary="A small language model on real text, without warm-up: loss spikes, their alarms, "
    "and smaller β2",
    presets={
        "quick": Config(),
        "paper": Config(batch_size=32, steps=800, seeds=16, other_seeds=5),
        "large": LARGE,
    },
    minutes={"quick": 1.0, "paper": 12.0, "large": 60.0},
)
