from dataclasses import dataclass
from typing import Literal

from experiments.experiment import Experiment


@dataclass(frozen=True)
class Config:
    """Something that goes wrong."""

    fault: Literal["package", "program", "death"] = "package"
    """What goes wrong."""


EXPERIMENT = Experiment(
    name="bowls-broken",
    study="bowls",
    figure="TOY Fig. 2",
    summary="It never works.",
    presets={"quick": Config(), "paper": Config(fault="program")},
    minutes={"quick": 0.1, "paper": 0.1},
)
