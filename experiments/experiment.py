"""What an experiment is, and how the experiments are found.

An experiment is a folder with two modules. ``config.py`` holds an ``EXPERIMENT``; it imports
neither jax nor NumPy, so that the command line answers at once. ``run.py`` holds

- ``train(config, recorder)``: trains through ``recorder.train(name, problem, method, runs, ...)``;
- ``analyze(config, results) -> Analysis``: turns the stored results, ``results[name]``, into claims
  and figures. It never trains, so that it can be repeated alone.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from experiments.claims import Claim
    from experiments.recorder import Recorder

PRESETS = ("quick", "paper")
"""Sizes of every experiment: enough for verdicts on a small machine, or those of the paper. An
experiment may have more, for larger machines."""


@dataclass(frozen=True)
class Experiment:
    """The declaration of an experiment.

    Attributes:
        name: study and phenomenon, ``"spikes-quadratic"``.
        study: ``"completion"``, ``"embedding"``, ``"spikes"`` or ``"control"``.
        figure: the figure of the paper that it corresponds to.
        summary: one line on what it shows.
        presets: a configuration, a frozen dataclass, per preset.
        minutes: time per preset on two cores, compilation included.
        x64: whether it computes in double precision.
        package: where it lives; filled in by :func:`discover`.
    """

    name: str
    study: str
    figure: str
    summary: str
    presets: Mapping[str, Any]
    minutes: Mapping[str, float]
    x64: bool = False
    package: str = ""

    def load(self) -> "RunModule":
        """Imports its ``run`` module, and with it jax."""
        return importlib.import_module(f"{self.package}.run")  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Analysis:
    """What the analysis of an experiment gives.

    Attributes:
        claims: the claims it tests.
        figures: by name, which becomes the file's name.
        tables: by name; a table is a sequence of rows, a row maps column to value.
    """

    claims: Sequence["Claim"] = ()
    figures: Mapping[str, "Figure"] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


class RunModule(Protocol):
    """The two functions of a ``run`` module."""

    def train(self, config: Any, recorder: "Recorder") -> None:
        """Trains everything the analysis needs."""
        ...

    def analyze(self, config: Any, results: Mapping[str, "xarray.Dataset"]) -> Analysis:
        """Claims and figures from the results, by the name of the training."""
        ...


def discover(package: str = "experiments") -> dict[str, Experiment]:
    """All experiments of a package by name, in the order of their names; imports no ``run`` module.

    Args:
        package: with folders ``<study>/<phenomenon>/config.py``.

    Example:
        >>> "spikes-quadratic" in discover()
        True
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = []
    for folder in map(Path, folders or ()):
        for path in folder.glob("*/*/config.py"):
            home = ".".join((package, *path.parent.relative_to(folder).parts))
            experiment = importlib.import_module(f"{home}.config").EXPERIMENT
            found.append(dataclasses.replace(experiment, package=home))
    return {experiment.name: experiment for experiment in sorted(found, key=lambda each: each.name)}
