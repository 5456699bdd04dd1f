"""The configuration of ``embedding-factorization``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_seed
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """4 x 4 matrices of rank 3 with one entry hidden: factorizations of width 1, 2 and 4."""

    seed: int = 620
    """Of the ground truths, of the starts and of all draws."""
    draws: int = 2
    """Ground truths for each of the 16 masks with one hidden entry."""
    searches: int = 8
    """Starts of the search for narrow critical points, for each ground truth and width."""
    search_steps: int = 40
    """Newton steps of a search, at most."""
    descent_steps: float = 8.0
    """Steps of it that go down in the loss; those that follow stop at saddles as well."""
    history_steps: int = 8000
    """Runge-Kutta steps of the wide factorization from a tiny start."""
    every: int = 16
    """Steps between two records of its history."""
    alphas: tuple[float, ...] = (-0.5, 0.0, 0.2, 0.4, 0.49, 0.5, 0.6, 1.0, 1.5)
    """Shares of the copy in the splits that the flow starts from."""
    displacement: float = 1e-3
    """Size, relative to the factors, of the displacement that it starts with."""
    flow_steps: int = 8000
    """Runge-Kutta steps from there."""

    def __post_init__(self):
        require_seed("seed", self.seed)
        for field in ("draws", "searches", "search_steps", "history_steps", "every", "flow_steps"):
            require_count(field, getattr(self, field))
        require_each("descent_steps", [self.descent_steps], 0, float("inf"))
        require_each("alphas", self.alphas, -10, 10)
        halves = self.alphas.count(0.5)
        require(halves == 1, "alphas", "shares with 0.5 among them, once", self.alphas)
        require(len(self.alphas) >= 2, "alphas", "at least two shares", self.alphas)
        require_each("displacement", [self.displacement], 1e-8, 0.1)


EXPERIMENT = Experiment(
    name="embedding-factorization",
    study="embedding",
    figure="MF Fig. 3, EP",
    summary="Plateaus of matrix completion are null embeddings of narrow factorizations",
    presets={"quick": Config(), "paper": Config(draws=20, searches=24, descent_steps=5)},
    minutes={"quick": 0.4, "paper": 2},
    x64=True,
)
