"""Configuration of ``spikes-polynomial``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Adam, gradient descent and momentum on θ^p / p from θ = 1, in double precision."""

    powers: tuple[int, ...] = (2, 4, 6, 8)
    """Even powers p, from 2 to 12. Beyond 2 the minimum is degenerate: its Hessian vanishes."""
    learning_rate: tuple[float, ...] = (0.01, 0.1, 0.3)
    """Step sizes η whose rates of convergence are fitted."""
    b1: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, 0.98)
    """Decays per step of the first moment, β1, whose rates are fitted."""
    b2: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
    """Decays per step of the second moment, β2, whose rates are fitted."""
    steps: int = 60_000
    """Steps of the runs whose rates are fitted; Adam's end early where v leaves the numbers."""
    every: int = 20
    """Steps between two of their records."""
    shown: tuple[float, float, float] = (0.01, 0.9, 0.99)
    """η, β1 and β2 of the runs that are drawn; each must be among those above."""
    fall_learning_rate: tuple[float, ...] = (0.003, 0.01)
    """Step sizes η for the fall of θ²/2 before its spike; small ones, for a long fall."""
    fall_b1: tuple[float, ...] = (0.0, 0.5, 0.9)
    """Values of β1 for the fall of θ²/2 before its spike."""
    fall_b2: tuple[float, ...] = (0.98, 0.985, 0.99)
    """Values of β2 for the fall of θ²/2 before its spike."""
    fall_steps: int = 4000
    """Steps of the runs on θ²/2, recorded one by one."""
    points: int = 24
    """Points of the phase diagrams along each axis."""
    diagram_steps: int = 4000
    """Steps of every point of the phase diagrams."""
    diagram_learning_rate: float = 0.01
    """Step size η of the phase diagrams."""
    diagram_forgetting: tuple[float, float] = (0.01, 0.9)
    """Smallest and largest 1 - β1 and 1 - β2 of the diagrams, spaced by a constant factor."""

    def __post_init__(self):
        fine = all(power % 2 == 0 and 2 <= power <= 12 for power in self.powers)
        fine &= len(set(self.powers)) == len(self.powers) > 0
        require(fine, "powers", "distinct even numbers from 2 to 12", self.powers)
        # Beyond η = 1 the first step leaves the unit interval, and high powers overflow.
        for field in ("learning_rate", "fall_learning_rate"):
            require_each(field, getattr(self, field), 1e-4, 1)
        require_each("diagram_learning_rate", [self.diagram_learning_rate], 1e-4, 1)
        for field in ("b1", "fall_b1"):
            require_each(field, getattr(self, field), 0, 1)
        for field in ("b2", "fall_b2"):
            require_each(field, getattr(self, field), 0.01, 1)
        for field in ("learning_rate", "b1", "b2", "fall_learning_rate", "fall_b1", "fall_b2"):
            values = getattr(self, field)
            require(len(set(values)) == len(values), field, "distinct numbers", values)
        for field in ("steps", "every", "fall_steps", "points", "diagram_steps"):
            require_count(field, getattr(self, field))
        among = (self.learning_rate, self.b1, self.b2)
        known = all(value in values for value, values in zip(self.shown, among, strict=True))
        require(known, "shown", "among learning_rate, b1 and b2", self.shown)
        low, high = self.diagram_forgetting
        # Less than 0.01 lets θ²/2 fall by so much that θ itself underflows.
        require(
            0.01 <= low < high < 1, "diagram_forgetting", "increasing in [0.01, 1)", f"{low} {high}"
        )


EXPERIMENT = Experiment(
    name="spikes-polynomial",
    study="spikes",
    figure="DEG, convergence on degenerate polynomials and phase diagrams",
    summary="Adam converges linearly on θ^p, p > 2, where gradient descent follows a power law",
    presets={"quick": Config(), "paper": Config(points=120, diagram_steps=20_000)},
    minutes={"quick": 0.3, "paper": 4.0},
    x64=True,
)
