"""Configuration of ``spikes-quadratic``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each
from experiments.experiment import Experiment

RATES = 1e-100, 1e100
"""Learning rates beyond these leave the range of the numbers within a step or two."""


@dataclass(frozen=True)
class Config:
    """Adam and gradient descent on θ²/2 from θ = 1."""

    learning_rate: float = 0.15
    """Step size η of the trajectories."""
    b1: float = 0.9
    """Decay per step of the first moment, β1, in the trajectories."""
    b2: tuple[float, ...] = (0.95, 0.98, 0.99, 0.995, 0.999)
    """Decay per step of the second moment, β2: one trajectory for each."""
    control_b2: float = 0.9
    """β2 of one more trajectory that is known not to spike."""
    steps: int = 10_000
    """Steps of every trajectory and of every point of the phase diagrams."""
    points: int = 32
    """Points of the phase diagrams along each of their two axes."""
    edge_b1: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, 0.95)
    """β1 of the runs that look for the edge of stability."""
    edge_eps: tuple[float, ...] = (
        *(1e-12, 1e-4, 3e-4, 1e-3, 1.5e-3, 1.8e-3, 2e-3, 3e-3, 3.8e-3, 4e-3),
        *(6e-3, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1),
    )
    """ε of these runs; from some value on, it keeps the curvature below 2/η."""
    edge_b2: float = 0.99
    """β2 of these runs, and of those in several dimensions."""
    edge_steps: int = 3000
    """Steps of both."""
    eigenvalues: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)
    """Eigenvalues of the Hessian in several dimensions."""
    spectrum_eps: tuple[float, ...] = (1e-30, 1e-4)
    """ε in several dimensions; the smallest also serves the rotated quadratics."""
    rotations: int = 16
    """Quadratics whose eigenvectors are rotated at random away from the axes, one per seed."""
    first_seed: int = 100
    """Seed of the first rotation."""
    diagram_b1: tuple[float, ...] = (0.0, 0.9)
    """β1 of the phase diagrams, one for each."""
    diagram_learning_rate: tuple[float, float] = (1e-3, 1.0)
    """Smallest and largest η of the phase diagrams, spaced by a constant factor."""
    diagram_forgetting: tuple[float, float] = (1e-3, 0.5)
    """Smallest and largest 1 - β2 of the phase diagrams, spaced by a constant factor."""

    def __post_init__(self):
        require_each("learning_rate", [self.learning_rate], *RATES)
        require_each("b1", [self.b1], 0, 1)
        require_each("b2", self.b2, 0, 1)
        require_each("control_b2", [self.control_b2], 0, 1)
        for field in ("edge_b1", "diagram_b1"):
            require_each(field, getattr(self, field), 0, 1)
            distinct = len(set(getattr(self, field))) == len(getattr(self, field))
            require(distinct, field, "distinct numbers", getattr(self, field))
        for field in ("edge_eps", "spectrum_eps"):
            # Less than 1e-150 could not keep 0/0 away once v has underflowed.
            require_each(field, getattr(self, field), 1e-150, 1e3)
            distinct = len(set(getattr(self, field))) == len(getattr(self, field))
            require(distinct, field, "distinct numbers", getattr(self, field))
        require_each("edge_b2", [self.edge_b2], 0.01, 1)
        require(self.edge_steps >= 2, "edge_steps", "at least 2", self.edge_steps)
        require_each("eigenvalues", self.eigenvalues, 1e-100, 1e100)
        require_count("rotations", self.rotations)
        require_count("first_seed", self.first_seed, least=0)
        distinct = len({*self.b2, self.control_b2}) == len(self.b2) + 1
        require(distinct, "b2", "distinct numbers other than control_b2", self.b2)
        require(self.steps >= 2, "steps", "at least 2", self.steps)
        require_count("points", self.points)
        require_each("diagram_learning_rate", self.diagram_learning_rate, *RATES)
        # Much less than 1e-12 would round β2 to 1.
        least, most = self.diagram_forgetting
        require(
            least >= 1e-12 and most <= 1, "diagram_forgetting", "in [1e-12, 1]", f"{least} {most}"
        )
        for field in ("diagram_learning_rate", "diagram_forgetting"):
            low, high = getattr(self, field)
            require(low < high, field, "an increasing pair", f"{low} {high}")


EXPERIMENT = Experiment(
    name="spikes-quadratic",
    study="spikes",
    figure="SPIKE, Adam on a quadratic",
    summary="Adam spikes on θ²/2 once its preconditioner has decayed; gradient descent does not",
    presets={"quick": Config(), "paper": Config(points=200, rotations=64)},
    minutes={"quick": 0.4, "paper": 2.0},
    x64=True,
)
