"""Configuration of ``control-predictors``."""

from dataclasses import dataclass

from experiments.config import require, require_count, require_positive, require_seed
from experiments.control.names import DEEP, FREQUENT, SINE, TASKS
from experiments.control.predictors.names import LABELS, REFERENCE
from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Plain Adam on trainings that spike, watched by all predictors at once."""

    tasks: tuple[str, ...] = (SINE, FREQUENT, DEEP)
    """Which trainings: sine, frequent, deep, digits on the full batch, the transformers sequence
    and language on mini-batches."""
    predictors: tuple[str, ...] = tuple(LABELS)
    """Which predictors; curvature_a, with which the others are compared, and the free one among
    them. curvature_b_on_part watches the transformers only."""
    free: str = "secant_or_gradient"
    """The predictor without derivatives of its own that is claimed to rival curvature_a."""
    seeds: int = 16
    """Number of runs of each network on the full batch, one per seed."""
    transformer_seeds: int = 5
    """Number of runs of each transformer, one per seed."""
    first_seed: int = 800
    """The seeds are this one and the following; those from 1000 on served to choose predictors and
    thresholds."""
    rise: float = 0.1
    """Decades by which the loss leaves its running minimum in a spike, on the full batch."""
    minibatch_rise: float = 0.3
    """The same for the mean over ten steps, on mini-batches."""
    shifts: int = 50
    """Random shifts of the alarms for what chance achieves."""

    def __post_init__(self):
        for field in ("seeds", "transformer_seeds", "shifts"):
            require_count(field, getattr(self, field))
        require_seed("first_seed", self.first_seed)
        require_positive("rise", self.rise)
        require_positive("minibatch_rise", self.minibatch_rise)
        for field, known in (("tasks", TASKS), ("predictors", tuple(LABELS))):
            chosen = getattr(self, field)
            require(len(chosen) > 0, field, f"at least one of {', '.join(known)}", "none")
            require(len(set(chosen)) == len(chosen), field, "different", ", ".join(chosen))
            for name in chosen:
                require(name in known, field, f"among {', '.join(known)}", name)
        require(REFERENCE in self.predictors, "predictors", f"such as contain {REFERENCE}", "none")
        others = [name for name in self.predictors if name != REFERENCE]
        require(self.free in others, "free", f"among the predictors {', '.join(others)}", self.free)


EXPERIMENT = Experiment(
    name="control-predictors",
    study="control",
    figure="SPIKE, the predictors held against each other",
    summary="What foretells the spikes of Adam, and at what cost: exact curvatures, curvature from "
    "the gradients that training has anyway, rules of thumb",
    presets={"quick": Config(), "paper": Config(tasks=TASKS, shifts=200)},
    minutes={"quick": 0.5, "paper": 25},
)
