"""Configuration of ``spikes-highdim``."""

from dataclasses import dataclass, replace

from experiments.config import Adam, require, require_count, require_positive, require_seed
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Training:
    """A network of one hidden layer, and how it is trained."""

    seeds: int
    """Number of runs, one per seed of the initial parameters."""
    width: int
    """Units of the hidden layer."""
    steps: int
    """Steps of training."""
    optimizer: Adam
    """Hyper-parameters of Adam."""
    target_seed: int
    """Seed of the points and the coefficients of the target, which all runs share. The default one
    was chosen among 24, see the comment in the code."""
    products: int
    """Hessian-vector products per step for the largest eigenvalue of the preconditioned Hessian; 0
    leaves it out."""

    def __post_init__(self):
        for field, least in (("seeds", 1), ("width", 1), ("products", 0)):
            require_count(field, getattr(self, field), least)
        require(self.products != 1, "products", "0 or at least 2", self.products)
        require_seed("target_seed", self.target_seed)
        # The spike detector begins at step 50.
        require_count("steps", self.steps, least=100)


# The targets were chosen among 24, with seeds from 1000 on: in a few of the others some runs spike
# early, or end in a poor minimum, where the loss has no decade to rise from.
DEEP = Training(
    seeds=32,
    width=20,
    steps=700,
    optimizer=Adam(learning_rate=0.02, b2=0.99),
    target_seed=18,
    products=3,
)
FREQUENT = Training(
    seeds=48,
    width=10,
    steps=1500,
    optimizer=Adam(learning_rate=0.05),
    target_seed=2,
    products=0,
)


@dataclass(frozen=True)
class Config:
    """Tanh networks fit a quadratic function of many variables by full-batch Adam."""

    deep: Training = DEEP
    """The runs with one deep spike each; they need the largest eigenvalue."""
    frequent: Training = FREQUENT
    """The runs with many spikes each."""
    first_seed: int = 700
    """The seeds are this one and the following; others, and those from 1000 on,
    served to choose the rest."""
    dimension: int = 50
    """Number of variables."""
    points: int = 200
    """Points to fit, standard normal."""
    rise: float = 0.1
    """Decades by which the loss leaves its running minimum in a spike."""
    shifts: int = 50
    """Random shifts of the alarms that give the scores of chance."""

    def __post_init__(self):
        require(self.deep.products >= 2, "deep.products", "at least 2", self.deep.products)
        for field in ("dimension", "points", "shifts"):
            require_count(field, getattr(self, field))
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)


EXPERIMENT = Experiment(
    name="spikes-highdim",
    study="spikes",
    figure="SPIKE, networks on a target of 50 variables",
    summary="Before a spike of ten decades λ_max crosses 2/η first, then the gradient turns into "
    "its eigenvector, and the curvature along the gradient crosses",
    presets={
        "quick": Config(),
        "paper": Config(
            deep=replace(DEEP, seeds=64),
            frequent=replace(FREQUENT, seeds=128, products=3),
            shifts=200,
        ),
    },
    minutes={"quick": 0.5, "paper": 2.0},
    x64=True,
)
