"""The parts of a training in a run directory: whose they are, and how far they reach.

Every part says which configuration of which experiment, and which of its trainings, it comes from.
Results are put together from parts of one origin alone, and only if none is missing.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from experiments.errors import UserError
from phenodl import results

_COMPLETE = "training_complete"


def write(path: Path, part: xr.Dataset, origin: Mapping[str, str], complete: bool) -> None:
    """Writes a part with its origin; ``complete`` marks the last one of a training."""
    part.attrs |= {**origin, _COMPLETE: int(complete)}
    results.write_part(path, part)


def origin(stored: Mapping[str, Any], training: str) -> dict[str, str]:
    """What the parts of a training say of where they come from.

    Args:
        stored: what ``config.json`` says.
        training: its name.
    """
    texts = {name: json.dumps(stored[name], sort_keys=True) for name in ("config", "provenance")}
    return {"experiment": stored["experiment"], "training": training, **texts}


def leading(folder: Path, stored: Mapping[str, Any], training: str) -> Iterator[xr.Dataset]:
    """The parts of a training that follow one another from its first step on, one per chunk.

    Raises:
        UserError: a part, be it one of these or a later one, is damaged or comes from elsewhere.
    """
    expected = origin(stored, training)
    reached: int | None = 0
    for _, paths in itertools.groupby(results.part_paths(folder, training), first_step):
        chunk = [_read(path, expected) for path in paths]
        if chunk[0].attrs["first_step"] != reached or results.missing(chunk) > 0:
            reached = None
            continue
        try:
            part = results.join(chunk)
        except results.ResultError as error:
            raise UserError(f"{error}; {remedy(Path(chunk[0].encoding['source']))}") from error
        reached = part.attrs["last_step"]
        yield part


def complete(leading_parts: list[xr.Dataset]) -> bool:
    """Whether leading parts reach to the end of their training."""
    return bool(leading_parts) and bool(leading_parts[-1].attrs[_COMPLETE])


def first_step(path: Path) -> int:
    """The step at which a part begins, by the name of its file."""
    name = results.PartName.parse(path.name)
    assert name is not None
    return name.first_step


def unknown(folder: Path, trainings: list[str]) -> list[Path]:
    """The parts that belong to none of these trainings."""
    known = {path for name in trainings for path in results.part_paths(folder, name)}
    return [path for path in results.part_paths(folder) if path not in known]


def remedy(path: Path) -> str:
    """What to do about a part that should not be there."""
    return f"remove it and run: python -m experiments resume {path.parent} --retrain"


def _read(path: Path, expected: Mapping[str, str]) -> xr.Dataset:
    try:
        part = results.read_part(path)
    except results.ResultError as error:
        raise UserError(f"{error}; {remedy(path)}") from error
    facts: dict[str, Any] = {name: expected[name] for name in ("experiment", "training", "config")}
    facts["first_step"] = first_step(path)
    other = [name for name, value in facts.items() if part.attrs.get(name) != value]
    if other or not {"last_step", _COMPLETE} <= part.attrs.keys():
        differing = f" (another {', '.join(other)})" if other else ""
        raise UserError(f"{path}: comes from elsewhere{differing}; {remedy(path)}")
    return part
