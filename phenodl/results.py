"""Results: labelled parts, one per chunk, and the one dataset they make together.

On disk a part is rows of runs, for what a chunk holds may be any subset of them; where several
processes train together, each writes a part with its own. In memory the runs
are unfolded into the axes of the sweep: `load` and `collect` give an :class:`xarray.Dataset` with
one dimension per axis, and ``step`` (``step_10`` for a probe that measures at every tenth step,
``step_chunk`` for one that reports once per chunk, none for one that reports at the end). What was
never measured is NaN.
"""

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

from phenodl import atomic
from phenodl.training import Chunk, Record

_AXES = "phenodl_axes"


class ResultError(ValueError):
    """A file of results that is not one, or not whole; the message names the file."""


def from_chunk(chunk: Chunk) -> xr.Dataset:
    """A chunk as a labelled part: one row per run, in the order of ``chunk.id``."""
    variables: dict[str, Any] = {
        "status": ("run", chunk.status),
        "stopped_at": ("run", chunk.stopped_at),
    }
    coordinates: dict[str, Any] = {"run": chunk.id}
    for record in chunk.records:
        step = _step_dimension(record)
        if record.emit != "end":
            coordinates[step] = record.steps
        for name, values in record.values.items():
            inner = [f"{name}_{number}" for number in range(values.ndim - 2)]
            if record.emit == "end":
                variables[name] = (("run", *inner), values[:, 0])
            else:
                variables[name] = (("run", step, *inner), values)
    axes = {name: values.tolist() for name, values in chunk.axes.items()}
    attributes = {
        _AXES: json.dumps(axes),
        "runs": chunk.runs,
        "first_step": chunk.first_step,
        "last_step": chunk.last_step,
        "total_steps": chunk.total_steps,
    }
    return xr.Dataset(variables, coordinates, attributes)


def collect(chunks: Iterable[Chunk]) -> xr.Dataset:
    """All chunks of a training, kept in memory, as one dataset over the axes of the sweep.

    Example:
        >>> import jax, optax
        >>> from phenodl import probes, sweep, training
        >>> from phenodl.protocol import Problem
        >>> problem = Problem(
        ...     init=lambda key, data, hyper: jax.random.normal(key),
        ...     loss=lambda theta, batch: theta**2,
        ... )
        >>> method = training.from_optax(lambda hyper: optax.sgd(hyper["learning_rate"]))
        >>> runs = sweep.product(key=jax.random.key(0), seed=range(2), learning_rate=[0.1, 0.2])
        >>> chunks = training.train(problem, method, runs, steps=10, probes=[probes.loss()])
        >>> dict(collect(chunks).loss.sizes)
        {'seed': 2, 'learning_rate': 2, 'step': 10}
    """
    return merge([from_chunk(chunk) for chunk in chunks])


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Joins parts, whatever their order, and unfolds the runs into the sweep's axes.

    A run that took part in none of them (one that had ended before) has status -1.

    Raises:
        ResultError: the parts do not follow one another, or come of different sweeps or probes; or
            runs that took part are missing, or there twice.
    """
    parts = [join(group) for group in by_step(parts)]
    _require_sequence(parts)
    axes = {name: np.asarray(values) for name, values in json.loads(parts[0].attrs[_AXES]).items()}
    shape = tuple(len(values) for values in axes.values())
    runs = int(np.prod(shape, dtype=int))
    merged = xr.Dataset(coords=axes, attrs={"total_steps": parts[0].attrs["total_steps"]})
    for name, first in parts[0].data_vars.items():
        dimensions = [str(dimension) for dimension in first.dims[1:]]
        pieces = [part[name] for part in parts]
        if dimensions and dimensions[0] in first.coords:
            step = dimensions[0]
            steps = np.concatenate([piece[step].values for piece in pieces])
            merged = merged.assign_coords({step: steps})
            values = _side_by_side(pieces, runs)
        else:
            values = _last_known(pieces, runs)
        merged[str(name)] = ((*axes, *dimensions), values.reshape((*shape, *values.shape[1:])))
    return merged


def by_step(parts: Iterable[xr.Dataset]) -> list[list[xr.Dataset]]:
    """The parts of each chunk of steps, in the order of the steps."""
    groups: dict[int, list[xr.Dataset]] = {}
    for part in parts:
        groups.setdefault(int(part.attrs["first_step"]), []).append(part)
    return [groups[step] for step in sorted(groups)]


def missing(parts: Sequence[xr.Dataset]) -> int:
    """How many of the runs that took part in a chunk none of its parts holds."""
    held = sum(part.sizes["run"] for part in parts)
    return int(parts[0].attrs.get("runs", held)) - held


def join(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The parts of one chunk, written by several processes, as one.

    Raises:
        ResultError: they hold a run twice, or not all that took part, or are of different chunks.
    """
    if lacking := missing(parts):
        first = parts[0].attrs["first_step"]
        amount = f"{lacking} runs are missing" if lacking > 0 else f"{-lacking} runs too many"
        raise ResultError(f"{_source(parts[0])}: of the chunk from step {first} {amount}")
    first, *others = parts
    if not others:
        return first
    for part in others:
        if part.attrs["last_step"] != first.attrs["last_step"] or not _same_measurements(
            first, part
        ):
            raise ResultError(
                f"{_source(part)}: is no part of the same chunk of a training as {_source(first)}"
            )
    ids = np.concatenate([part["run"].values for part in parts])
    order = np.argsort(ids, kind="stable")
    if (np.diff(ids[order]) == 0).any():
        raise ResultError(f"{_source(first)}: holds runs that another part holds as well")

    def rows(name: Any) -> tuple[Any, np.ndarray]:
        values = np.concatenate([part[name].values for part in parts])
        return first[name].dims, values[order]

    variables = {name: rows(name) for name in first.data_vars}
    return xr.Dataset(variables, dict(first.coords) | {"run": ids[order]}, first.attrs)


def final(variable: xr.DataArray, dimension: str = "step_chunk") -> xr.DataArray:
    """The last value along a dimension that was measured (is not NaN), per run."""
    places = xr.DataArray(np.arange(variable.sizes[dimension]), dims=dimension)
    last = places.where(variable.notnull(), 0).max(dimension).astype(int)
    return variable.isel({dimension: last}).drop_vars(dimension)


def write_part(path: Path, part: xr.Dataset) -> None:
    """Writes a part with its checksum; the file is either whole or not there.

    The file is netCDF 4, and behind it the SHA-256 of all of it, which other readers pass over.
    """
    # In memory, for HDF5 takes a disk that is full badly.
    content = part.to_netcdf(engine="h5netcdf")

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(content)
            file.write(_checksum(content))

    atomic.write(path, fill)


def read_part(path: Path) -> xr.Dataset:
    """Reads one part into memory.

    Raises:
        ResultError: the file is truncated, not what was written, or no part of this library.
    """
    try:
        stored = memoryview(path.read_bytes())
        content, checksum = stored[:-_CHECKSUM_BYTES], stored[-_CHECKSUM_BYTES:]
        if _checksum(content) != checksum:
            raise ResultError(f"{path}: damaged, truncated, or no results of phenodl")
        if not _self_contained(content):
            raise ResultError(f"{path}: refers to other files, which no results of phenodl do")
        part = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    except (OSError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ResultError(f"{path}: cannot be read as results ({reason})") from error
    if _AXES not in part.attrs:
        raise ResultError(f"{path}: holds no results of phenodl")
    part.encoding["source"] = str(path)
    return part


def _self_contained(content: bytes | memoryview) -> bool:
    """Whether an HDF5 file holds all its numbers: a stranger's might show another file's."""
    with h5py.File(io.BytesIO(content), "r") as file:
        for name in file:
            hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
            data = file[name] if hard else None
            if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
                return False
    return True


_CHECKSUM_BYTES = 32


def _checksum(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()


class PartName(NamedTuple):
    """What the name of a part's file says.

    Attributes:
        training: its name.
        first_step: of the chunk.
        process: that wrote it, 0 for the first or only one.
    """

    training: str
    first_step: int
    process: int = 0

    def __str__(self) -> str:
        process = f".{self.process}" if self.process else ""
        return f"part-{self.training}-{self.first_step:09d}{process}.nc"

    @classmethod
    def parse(cls, name: str) -> "PartName | None":
        """None if it is no part's.

        Example:
            >>> PartName.parse("part-adam-000000100.3.nc")
            PartName(training='adam', first_step=100, process=3)
        """
        found = re.fullmatch(r"part-(.+)-([0-9]+)(?:\.([0-9]+))?\.nc", name)
        parsed = cls(found[1], int(found[2]), int(found[3] or 0)) if found else None
        return parsed if str(parsed) == name else None


def part_path(run_dir: Path, training: str, first_step: int, process: int = 0) -> Path:
    """Where a process writes its part of a chunk."""
    return run_dir / str(PartName(training, first_step, process))


def part_paths(run_dir: Path, training: str | None = None) -> list[Path]:
    """The parts of one training (or of all) in a run directory, in the order of their steps."""
    named = [(PartName.parse(path.name), path) for path in run_dir.glob("part-*.nc")]
    ours = [(name, path) for name, path in named if name and training in (None, name.training)]
    return [path for _, path in sorted(ours)]


def load(run_dir: str | Path, name: str | None = None) -> xr.Dataset:
    """The results of one training in a run directory.

    Args:
        run_dir: the directory.
        name: of the training; not needed where there is only one.

    Raises:
        ResultError: there are no parts, one of them cannot be read, or no such name.
    """
    names = trainings(run_dir)
    if not names:
        raise ResultError(f"{run_dir}: no results here (part-*.nc)")
    if (name is None and len(names) > 1) or (name is not None and name not in names):
        raise ResultError(f"{run_dir}: holds the trainings {', '.join(names)}; name one of them")
    return merge([read_part(path) for path in part_paths(Path(run_dir), name or names[0])])


def trainings(run_dir: str | Path) -> list[str]:
    """The names of the trainings whose parts are in a run directory."""
    names = [PartName.parse(path.name) for path in part_paths(Path(run_dir))]
    return sorted({name.training for name in names if name})


def _require_sequence(parts: Sequence[xr.Dataset]) -> None:
    if not parts:
        raise ResultError("no results: training had nothing to do")
    for before, part in itertools.pairwise(parts):
        source = _source(part)
        if before.attrs["last_step"] != part.attrs["first_step"]:
            raise ResultError(
                f"{source}: starts at step {part.attrs['first_step']}, but the part before it ends"
                f" at {before.attrs['last_step']}; one is missing"
            )
        if not _same_measurements(before, part):
            raise ResultError(
                f"{source}: comes of another sweep or other probes than its neighbours"
            )


def _same_measurements(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Whether two parts are of one sweep and the same probes."""
    return one.attrs[_AXES] == other.attrs[_AXES] and set(one) == set(other)


def _source(part: xr.Dataset) -> str:
    return part.encoding.get("source", "a part")


def _step_dimension(record: Record) -> str:
    if record.emit == "chunk":
        return "step_chunk"
    return "step" if record.every == 1 else f"step_{record.every}"


def _last_known(pieces: Sequence[xr.DataArray], runs: int) -> np.ndarray:
    """One value per run: that of the last part it took part in; NaN, -1 or 0 if there is none."""
    dtype = pieces[0].dtype
    fill = {"f": np.nan, "i": -1}.get(dtype.kind, 0)
    values = np.full((runs, *pieces[0].shape[1:]), fill, dtype)
    for piece in pieces:
        values[piece["run"].values] = piece.values
    return values


def _side_by_side(pieces: Sequence[xr.DataArray], runs: int) -> np.ndarray:
    """Pieces one after another along the steps; NaN where a run took no part."""
    missing = any(piece.sizes["run"] < runs for piece in pieces)
    dtype = np.result_type(*(piece.dtype for piece in pieces), *([np.float16] if missing else []))
    length = sum(piece.shape[1] for piece in pieces)
    fill = np.nan if missing else 0
    values = np.full((runs, length, *pieces[0].shape[2:]), fill, dtype)
    begin = 0
    for piece in pieces:
        end = begin + piece.shape[1]
        values[piece["run"].values, begin:end] = piece.values
        begin = end
    return values
