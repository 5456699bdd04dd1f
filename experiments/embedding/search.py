"""How the experiments of this study look for narrow critical points.

Imports neither jax nor NumPy, so that configurations can hold it.
"""

from dataclasses import dataclass

from experiments.config import require, require_count, require_positive, require_seed


@dataclass(frozen=True)
class Search:
    """Newton's method from random starts, see phenodl.embedding.critical.search."""

    seed: int = 500
    """Of the starts (and, for random targets, of the targets)."""
    seeds: int = 16
    """Starts for each target."""
    steps: int = 150
    """Newton steps, at most."""
    descent_steps: float = float("inf")
    """Steps that go downhill in the loss before those that go downhill in the gradient: infinite
    for minima, 2 to 5 for saddles as well."""
    bound: float = 100.0
    """Norm of the parameters up to which a critical point is accepted."""

    def __post_init__(self):
        require_seed("seed", self.seed)
        for field in ("seeds", "steps"):
            require_count(field, getattr(self, field))
        require(self.descent_steps >= 0, "descent_steps", "at least 0", self.descent_steps)
        require_positive("bound", self.bound)
