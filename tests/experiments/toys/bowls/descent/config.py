from dataclasses import dataclass

from experiments.config import Adam, require_count
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Adam in a bowl."""

    seeds: int = 4
    """Number of runs, one per seed."""
    steps: int = 40
    """Length of training, in steps."""
    curvatures: tuple[float, ...] = (1.0, 2.0)
    """Eigenvalues of the Hessian."""
    tail: int | None = None
    """Steps that enter the claim; all by default."""
    optimizer: Adam = Adam(learning_rate=0.05, b2=0.99)
    """The optimizer."""

    def __post_init__(self):
        require_count("seeds", self.seeds)
        require_count("steps", self.steps)


EXPERIMENT = Experiment(
    name="bowls-descent",
    study="bowls",
    figure="TOY Fig. 1",
    summary="Adam reaches the bottom of a bowl.",
    presets={"quick": Config(), "paper": Config(seeds=8, steps=80)},
    minutes={"quick": 0.1, "paper": 0.2},
    x64=True,
)
