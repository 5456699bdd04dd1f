"""Configuration of ``control-interventions``."""

from dataclasses import dataclass, fields

from experiments.config import require, require_count, require_each, require_seed
from experiments.control.names import DEEP, FREQUENT, FULL_BATCH, SEQUENCE, SINE, TASKS
from experiments.experiment import Experiment

ADAM = "adam"
"""The method that all others are held against."""

OURS = "guarded"
"""The controller that the claims are about."""


@dataclass(frozen=True)
class Settings:
    """The one knob of each method, the same for all trainings; chosen by ``--preset tuning``."""

    guarded: float = 0.5
    """Margin κ of the controller with its own response and predictor, which needs no second
    derivative either."""
    scale: float = 0.3
    """Margin κ of the scaled step, alarmed by the secant curvature."""
    scale_exact: float = 0.7
    """The same, alarmed by curvature C, from a second derivative."""
    raise_all: float = 0.6
    """Margin κ of raising the whole of v, alarmed by the secant curvature."""
    raise_all_exact: float = 0.75
    """The same, alarmed by curvature B, from a second derivative."""
    raise_coordinates: float = 0.5
    """Margin κ of raising v where the curvature is, alarmed by the secant curvature."""
    floor: float = 1e-2
    """Least sqrt(v̂) while the secant curvature is above half of 2/η."""
    switch_b2: float = 0.5
    """β2 while the secant curvature is above half of 2/η."""
    reset: float = 1.0
    """Margin κ of resetting v̂ to g², alarmed by the secant curvature."""
    amsgrad: float = 2.0
    """AMSGrad's learning rate, in units of Adam's."""
    stable_adamw: float = 0.25
    """Threshold of StableAdamW's update clipping."""
    spam: float = 500.0
    """SPAM clips g² at this multiple of v."""
    clip_global: float = 0.1
    """Largest norm of the whole gradient."""
    clip_adaptive: float = 0.001
    """Largest norm of a unit's gradient, in units of that of its parameters."""
    lower_b2: float = 0.99
    """Decay of the second moment."""
    smaller_rate: float = 0.1
    """Learning rate, in units of Adam's."""
    schedule: float = 0.25
    """Highest learning rate of a warm-up with cosine decay, in units of Adam's."""

    def __post_init__(self):
        for field in fields(self):
            high = 1.0 if field.name in ("switch_b2", "lower_b2") else 1e6
            require_each(field.name, [getattr(self, field.name)], 1e-12, high)


METHODS = (ADAM, *(field.name for field in fields(Settings)))
CONTROLLERS = METHODS[1 : METHODS.index("amsgrad")]
RIVALS = METHODS[METHODS.index("amsgrad") :]

GRIDS = {
    "guarded": (0.4, 0.5, 0.6),
    "scale": (0.3, 0.5, 0.7),
    "scale_exact": (0.3, 0.5, 0.7),
    "raise_all": (0.6, 0.75, 0.9),
    "raise_all_exact": (0.6, 0.75, 0.9),
    "raise_coordinates": (0.4, 0.5, 0.6),
    "floor": (1e-3, 1e-2, 1e-1),
    "switch_b2": (0.5, 0.8, 0.9),
    "reset": (0.5, 0.75, 1.0),
    "amsgrad": (1.0, 2.0, 4.0),
    "stable_adamw": (0.25, 0.5, 1.0),
    "spam": (5.0, 50.0, 500.0),
    "clip_global": (0.01, 0.1, 1.0),
    "clip_adaptive": (0.001, 0.01, 0.1),
    "lower_b2": (0.9, 0.95, 0.99),
    "smaller_rate": (0.5, 0.2, 0.1),
    "schedule": (1.0, 0.5, 0.25),
}
"""What each knob is chosen from."""


@dataclass(frozen=True)
class Config:
    """Adam under every controller and rival, on trainings that spike."""

    tasks: tuple[str, ...] = (SINE, FREQUENT, DEEP)
    """Trainings: sine, frequent, deep and digits on the full batch, sequence and language on
    mini-batches."""
    methods: tuple[str, ...] = (ADAM, OURS, "smaller_rate")
    """Controllers and rivals; adam is what all are held against."""
    minibatch_methods: tuple[str, ...] = METHODS
    """Those of them that are run on mini-batches as well, where a run takes half a minute."""
    seeds: int = 16
    """Number of runs of a training on the full batch, one per seed."""
    minibatch_seeds: int = 5
    """The same of a training on mini-batches."""
    first_seed: int = 800
    """The seeds are this one and the following; 1000 and beyond served to choose settings."""
    settings: Settings = Settings()
    """The knob of each method."""
    tuning: bool = False
    """Take every value of a knob's grid instead, to choose the settings from."""

    def __post_init__(self):
        chosen_from = {"tasks": TASKS, "methods": METHODS, "minibatch_methods": METHODS}
        for field, known in chosen_from.items():
            chosen = getattr(self, field)
            require(
                len(chosen) > 0 and set(chosen) <= set(known) and len(set(chosen)) == len(chosen),
                field,
                f"some of {', '.join(known)}, each once",
                ", ".join(chosen) or "none",
            )
        for field in ("methods", "minibatch_methods"):
            chosen = getattr(self, field)
            require(ADAM in chosen, field, f"with {ADAM}", ", ".join(chosen))
        for field in ("seeds", "minibatch_seeds"):
            require_count(field, getattr(self, field))
        require_seed("first_seed", self.first_seed)

    def methods_of(self, task: str) -> tuple[str, ...]:
        """The methods that are run on a task."""
        on_minibatches = set(self.minibatch_methods)
        return tuple(m for m in self.methods if task in FULL_BATCH or m in on_minibatches)


EXPERIMENT = Experiment(
    name="control-interventions",
    study="control",
    figure="SPIKE, interventions",
    summary="A controller that needs no second derivative takes the spikes off Adam, at little "
    "cost to the loss; the rivals on equal terms",
    presets={
        "quick": Config(),
        "paper": Config(
            tasks=TASKS,
            methods=METHODS,
            minibatch_methods=(ADAM, OURS, "raise_coordinates", *RIVALS),
        ),
        # All but the dearest task, for all methods alike.
        "tuning": Config(
            tasks=(*FULL_BATCH, SEQUENCE),
            methods=METHODS,
            minibatch_seeds=1,
            first_seed=1000,
            tuning=True,
        ),
    },
    minutes={"quick": 0.6, "paper": 25, "tuning": 40},
)
