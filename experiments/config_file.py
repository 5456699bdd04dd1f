"""``config.json``: the configuration of a run, its origin, and how far it has come."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import files
from experiments.errors import UserError
from experiments.serialization import decode

NAME = "config.json"


@dataclass(frozen=True)
class Provenance:
    """Where and when a session ran, see :func:`experiments.provenance.provenance`."""

    command: str
    date: str
    git_commit: str | None
    python: str
    platform: str
    versions: dict
    processes: int
    devices: tuple[str, ...]
    cores: int


@dataclass(frozen=True)
class Trained:
    """When all training had ended, what the last session of it took, the trainings' names."""

    date: str
    seconds: float
    trainings: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """The fields of the file with their types.

    Attributes:
        experiment: its name.
        preset: its name.
        x64: whether it computes in double precision.
        shard: ``"2/8"`` where it trains the second of eight shares of the runs, None for all.
        config: the configuration.
        provenance: of the session that began the run.
        resumed: of the sessions that went on with it.
        trained: None as long as training has not ended.
        analyzed: the figures and tables of the last analysis, as paths in the run directory.
    """

    experiment: str
    preset: str
    x64: bool
    shard: str | None
    config: dict
    provenance: Provenance
    resumed: tuple[Provenance, ...]
    trained: Trained | None
    analyzed: tuple[str, ...]


def read(folder: Path) -> dict[str, Any]:
    """What the file says: the fields of :class:`Stored`, in JSON's own types.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / NAME
    with files.reported(path, "read"):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder} holds no run (no {NAME})") from None
        except ValueError as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
    try:
        decode(Stored, stored)
    except ValueError as error:
        raise UserError(f"{path}: describes no run ({error})") from error
    return stored


def write(folder: Path, fields: Mapping[str, Any]) -> None:
    """Writes the file, whole."""
    files.write(folder / NAME, json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
