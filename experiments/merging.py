"""Joins the shards of a run, each trained by itself, into the run that they are shares of."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from experiments import config_file, files, lock, parts
from experiments.arguments import PROGRAM
from experiments.errors import UserError
from experiments.provenance import command, now
from experiments.run_directory import RunDirectory
from phenodl import results

_MERGING = {"shard": "merging", "trained": None, "analyzed": []}
"""What ``config.json`` says until all is there, so that nobody takes it for a run to go on with."""


def merge(out: Path, shards: Sequence[RunDirectory]) -> RunDirectory:
    """Writes the results of all shards as those of one run, which can then be analyzed.

    It goes from chunk to chunk, so that memory holds one at a time. If it is killed, the same call
    finishes it.

    Args:
        out: where to write, a new directory or one in which the same was begun.
        shards: all of them, in any order.

    Raises:
        UserError: a directory is no shard, or unfinished; they are of different runs, overlap, or
            one is missing; ``out`` holds something else.
    """
    shards = _in_order(shards)
    first, fields = shards[0], _fields(shards)
    run = RunDirectory(out, first.experiment, first.preset, first.config)
    if run.exists:
        stored = run.stored
        if stored | fields == stored:
            return run
        if stored | fields | _MERGING != stored:
            raise UserError(f"{out} holds a run that is not of these shards; choose another OUT")
    else:
        RunDirectory.prepare(out, first.experiment, first.preset, first.config)
    names = first.stored["trained"]["trainings"]
    seconds = sum(shard.stored["trained"]["seconds"] for shard in shards)
    trained = {"date": now(), "seconds": round(seconds, 1), "trainings": names}
    with lock.held(out):
        try:
            config_file.write(out, fields | _MERGING)
            for name in names:
                _merge_training(run, name, shards)
            config_file.write(out, fields | {"trained": trained, "analyzed": []})
        except UserError:
            for path in (*results.part_paths(out), out / config_file.NAME):
                path.unlink(missing_ok=True)
            raise
    return run


def _in_order(shards: Sequence[RunDirectory]) -> list[RunDirectory]:
    """All shards of one run by their numbers.

    Raises:
        UserError: they are not.
    """
    if not shards:
        raise UserError("merge needs the directories of all shards after OUT")
    numbers: dict[int, RunDirectory] = {}
    first = shards[0]
    for run in shards:
        if run.shard is None:
            raise UserError(f"{run.path} is no shard of a run")
        one, other = ((each.experiment.name, each.config) for each in (first, run))
        if one != other or first.shard is None or run.shard.count != first.shard.count:
            raise UserError(f"{run.path} is a shard of another run than {first.path}")
        if run.shard.number in numbers:
            same = numbers[run.shard.number].path
            raise UserError(f"{run.path} and {same} are both shard {run.shard}: they overlap")
        if not run.trained:
            raise UserError(f"{run.path} is not finished: {PROGRAM} resume {run.path}")
        numbers[run.shard.number] = run
    assert first.shard is not None
    missing = sorted(set(range(1, first.shard.count + 1)).difference(numbers))
    if missing:
        shown = ", ".join(map(str, missing[:10]))
        raise UserError(f"shard {shown} of {first.shard.count} is missing")
    return [numbers[number] for number in sorted(numbers)]


def _fields(shards: Sequence[RunDirectory]) -> dict[str, Any]:
    """What ``config.json`` of the joined run says: it comes from the first shard, then the rest."""
    first, *rest = (shard.stored for shard in shards)
    run = shards[0]
    whole = command(run.experiment, run.preset, run.config)
    return {name: first[name] for name in ("experiment", "preset", "x64", "config")} | {
        "shard": None,
        "provenance": first["provenance"] | {"command": whole},
        "resumed": [stored["provenance"] for stored in rest],
    }


def _merge_training(run: RunDirectory, name: str, shards: Sequence[RunDirectory]) -> None:
    origin = parts.origin(run.stored, name)
    paths = [path for shard in shards for path in results.part_paths(shard.path, name)]
    last = max(map(parts.first_step, paths), default=0)
    ended = [False] * len(shards)
    for shares in itertools.zip_longest(
        *(parts.leading(shard.path, shard.stored, name) for shard in shards)
    ):
        ended = [
            before if part is None else parts.complete([part])
            for before, part in zip(ended, shares, strict=True)
        ]
        joined = _join([part for part in shares if part is not None])
        first_step = joined.attrs["first_step"]
        path = results.part_path(run.path, name, first_step)
        with files.reported(path, "written"):
            parts.write(path, joined, origin, complete=first_step == last)
    for shard, complete in zip(shards, ended, strict=True):
        if not complete:
            advice = f"{PROGRAM} resume {shard.path} --retrain"
            raise UserError(f"{shard.path} has lost results of {name}: {advice}")


def _join(shares: Sequence[xr.Dataset]) -> xr.Dataset:
    """The shares of one chunk; those whose runs have all ended have none.

    Raises:
        UserError: they do not end at one step, or hold a run twice.
    """
    borders = Counter((part.attrs["first_step"], part.attrs["last_step"]) for part in shares)
    if len(borders) > 1:
        shown = " and ".join(f"{first} to {last}" for first, last in borders)
        raise UserError(f"the shards have chunks of different steps, {shown}: retrain some of them")
    total = sum(part.sizes["run"] for part in shares)
    for part in shares:
        part.attrs["runs"] = total
    try:
        return results.join(shares)
    except results.ResultError as error:
        raise UserError(str(error)) from error
