"""The configuration of ``completion-scale``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_each, require_positive
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """A phase diagram over sample size and connectivity for each of several sizes and ranks."""

    seed: int = 742
    """Of the ground truths, the masks and the initial factors."""
    sides: tuple[int, ...] = (20, 20, 100)
    """Rows, and columns, of the square ground truths: one number per diagram."""
    ranks: tuple[int, ...] = (1, 3, 3)
    """Of the ground truths of each diagram."""
    repeats: tuple[int, ...] = (20, 12, 1)
    """Instances in each cell of each diagram."""
    oversampling: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    """Sample sizes: observed entries per degree of freedom 2 r d - r²."""
    components: int = 2
    """Diagonal blocks of the disconnected masks."""
    degrees: tuple[int, ...] = (1, 2, 3, 4)
    """Numbers of entries in the sparsest row of the connected masks."""
    init_std: float = 1e-10
    """Standard deviation of the initial factors."""
    steps: int = 750
    """Steps of gradient descent at most."""
    tolerance: float = 1e-10
    """Loss per observed entry at which a run ends."""

    def __post_init__(self):
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require_each("sides", self.sides, 4, 1001)
        require_each("ranks", self.ranks, 1, min(self.sides))
        require_each("repeats", self.repeats, 1, 10_001)
        for field, values in (("ranks", self.ranks), ("repeats", self.repeats)):
            require(
                len(values) == len(self.sides),
                field,
                f"{len(self.sides)} numbers, as sides",
                values,
            )
        diagrams = list(zip(self.sides, self.ranks, strict=True))
        different = len(set(diagrams)) == len(diagrams)
        require(different, "ranks", "different for diagrams of one side", self.ranks)
        self._require_cells()
        require_count("steps", self.steps)
        require_positive("tolerance", self.tolerance)
        require_each("init_std", [self.init_std], 1e-16, 1)

    def _require_cells(self) -> None:
        most = min(
            side**2 / (rank * (2 * side - rank))
            for side, rank in zip(self.sides, self.ranks, strict=True)
        )
        field, values = "oversampling", self.oversampling
        require_each(field, values, 0.1, most)
        require(list(values) == sorted(set(values)), field, "increasing", values)
        require(min(values) < 1, field, "below 1 for some sample sizes", values)
        require_count("components", self.components, least=2)
        for side in self.sides:
            fits = side % self.components == 0 and side // self.components >= 2
            blocks = f"a divisor of the side {side} that leaves blocks of at least 2"
            require(fits, "components", blocks, self.components)
        field, values = "degrees", self.degrees
        require_each(field, values, 1, min(self.sides))
        require(list(values) == sorted(set(values)), field, "increasing", values)


EXPERIMENT = Experiment(
    name="completion-scale",
    study="completion",
    figure="MF Fig. 1, larger",
    summary="Exact recovery by sample size and connectivity, for matrices of up to 200 rows",
    presets={
        "quick": Config(),
        "paper": Config(
            sides=(20, 20, 100, 100, 200),
            ranks=(1, 3, 1, 3, 3),
            repeats=(60, 60, 4, 4, 1),
            steps=3000,
        ),
    },
    minutes={"quick": 0.2, "paper": 8},
    x64=True,
)
