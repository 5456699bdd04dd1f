"""The configuration of ``embedding-width``."""

from dataclasses import dataclass

from experiments.config import require_count, require_seed
from experiments.embedding.search import Search
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Critical points of 1-D and Iris networks with one to three hidden layers, and wider ones."""

    search: Search = Search(seed=540, seeds=32)
    """For the critical points of networks with one and two units, on staircases and on Iris."""
    staircases: int = 16
    """Random 1-D targets of that search, each with three steps."""
    seed: int = 540
    """Of the planted critical points and of the embeddings."""
    planted: int = 12
    """Planted critical points with two hidden layers, and with three; those with one hidden layer
    are three times as many."""
    draws: int = 2
    """Embeddings of each kind, and into each hidden layer, for every critical point."""
    alphas: int = 61
    """Points of the curves over alpha, from -1 to 2; 0, 1/2 and 1 are among them if 6 divides one
    less."""

    def __post_init__(self):
        require_seed("seed", self.seed)
        for field in ("staircases", "planted", "draws"):
            require_count(field, getattr(self, field))
        require_count("alphas", self.alphas, least=4)


EXPERIMENT = Experiment(
    name="embedding-width",
    study="embedding",
    figure="EP (arXiv 2105.14573), EP-h (arXiv 2111.15527)",
    summary="Split, null and compatible embeddings keep a network critical; minima become saddles",
    presets={
        "quick": Config(),
        "paper": Config(
            search=Search(seed=540, seeds=64), staircases=16, planted=48, draws=4, alphas=151
        ),
    },
    minutes={"quick": 0.7, "paper": 2},
    x64=True,
)
