"""What is completed: the entries, which of them train, which stop the training, which test."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds

from experiments.completion.data import photograph
from experiments.completion.data.config import Config
from experiments.errors import UserError
from phenodl.data.entries import Entries, EntriesError
from phenodl.data.entry_files import read_entries

_WIDEST = 256
_LARGEST = 2**27  # entries of a product that is held as a dense matrix, 1 GiB


class Part(NamedTuple):
    """Some of the entries, their values standardised."""

    row: Int[np.ndarray, " entries"]
    column: Int[np.ndarray, " entries"]
    value: Float[np.ndarray, " entries"]


class Task(NamedTuple):
    """A matrix to complete. In the data's own units a value v is offset + scale v.

    Attributes:
        name: of the data.
        shape: of the matrix.
        train: the entries that the loss sees.
        stop: those whose error tells when to stop.
        test: those whose error is reported, unseen by both.
        offset: the mean of the training entries, or 0.
        scale: their root mean square about it.
        digest: SHA-256 of the data.
        picture: the photograph, if that is what is completed.
        reading: as what the file was read, if there is one.
    """

    name: str
    shape: tuple[int, int]
    train: Part
    stop: Part
    test: Part
    offset: float
    scale: float
    digest: bytes
    picture: Float[np.ndarray, "height width"] | None = None
    reading: str = ""

    @property
    def mask(self) -> Bool[np.ndarray, "rows columns"]:
        """The training entries."""
        mask = np.zeros(self.shape, bool)
        mask[self.train.row, self.train.column] = True
        return mask

    @property
    def target(self) -> Float[np.ndarray, "rows columns"]:
        """Their values, 0 elsewhere."""
        target = np.zeros(self.shape)
        target[self.train.row, self.train.column] = self.train.value
        return target

    @property
    def growth_rate(self) -> float:
        """The largest singular value of the target: of the first direction to grow."""
        if min(self.shape) < 100:
            return float(np.linalg.norm(self.target, 2))
        sparse = coo_array((self.train.value, (self.train.row, self.train.column)), self.shape)
        start = np.ones(min(self.shape))
        values: Any = svds(sparse, k=1, v0=start, return_singular_vectors=False)
        return float(values[0])

    def inner_width(self, config: Config) -> int:
        """Columns of the first factor."""
        return config.inner_width or min(*self.shape, _WIDEST)

    def compares(self, config: Config) -> bool:
        """Whether the matrix is small enough for the comparisons."""
        return self.shape[0] * self.shape[1] <= config.comparison_limit


def load(config: Config) -> Task:
    """The task of a configuration.

    Raises:
        UserError: the file cannot be used; the message names it, and the place in it.
    """
    return _from_photograph(config) if config.file is None else _from_file(config, config.file)


def _from_photograph(config: Config) -> Task:
    """The pixels that are seen train, but for a share that stops; the others test."""
    picture = photograph.grey(config.photograph.name, config.photograph.height)
    order = np.random.default_rng(config.seed).permutation(picture.size)
    seen = max(round(config.photograph.observed * picture.size), 2)
    stop = max(round(config.held_out * seen), 1)
    row, column = np.unravel_index(order, picture.shape)
    digest = hashlib.sha256(picture.tobytes()).digest()
    places = np.split(np.arange(picture.size), [stop, seen])
    name = f"photograph ({config.photograph.name})"
    everything = Part(row, column, picture[row, column])
    task = _task(name, picture.shape, everything, places, config.center, digest)
    return task._replace(picture=picture)


def _from_file(config: Config, file: str) -> Task:
    """A share stops, as many entries test, and the others train."""
    try:
        entries = read_entries(file, config.layout)
        digest = hashlib.sha256(Path(file).read_bytes()).digest()
    except EntriesError as error:
        raise UserError(str(error)) from error
    count, (rows, columns) = len(entries.value), entries.shape
    if count < 3:
        raise UserError(f"{file}: at least 3 entries are needed, to train, stop and test; {count}")
    if rows * columns > _LARGEST:
        raise UserError(f"{file}: {rows} x {columns} is too large, {_LARGEST} entries at most")
    held = max(round(config.held_out * count), 1)
    order = np.random.default_rng(config.seed).permutation(count)
    places = np.split(order, [held, count - held])
    known = entries.value[places[1]]
    if np.all(known == (known[0] if config.center else 0)):
        advice = "; --no-center keeps their mean" if config.center and known[0] else ""
        message = f"the training entries ({len(known)}) are all {known[0]:g}, nothing is to learn"
        raise UserError(f"{file}: {message}{advice}")
    everything = Part(entries.row, entries.column, entries.value)
    task = _task(Path(file).name, entries.shape, everything, places, config.center, digest)
    return task._replace(reading=_reading(entries, Path(file), config))


def _reading(entries: Entries, file: Path, config: Config) -> str:
    """How the file was understood, and for a table that could be either, how to change that."""
    count, (rows, columns) = len(entries.value), entries.shape
    if entries.layout == "entries":
        text, other = (
            f"read as a list of {count} entries ({entries.merged} repeats merged)",
            "matrix",
        )
    else:
        text, other = f"read as a matrix {rows} x {columns} with {count} entries", "entries"
    either = config.layout == "auto" and file.suffix.lower() in (".csv", ".tsv")
    return f"{text}; otherwise pass --layout {other}" if either else text


def _task(
    name: str,
    shape: tuple[int, ...],
    entries: Part,
    places: list[np.ndarray],
    center: bool,
    digest: bytes,
) -> Task:
    """Divides entries by their places (stop, train, test) and standardises them."""
    known = entries.value[places[1]]
    offset = float(known.mean()) if center else 0.0
    largest = np.abs(known - offset).max()
    scale = float(largest * np.sqrt(np.mean(((known - offset) / largest) ** 2)))

    def part(chosen: np.ndarray) -> Part:
        value = (entries.value[chosen] - offset) / scale
        return Part(entries.row[chosen], entries.column[chosen], value)

    stop, train, test = map(part, places)
    size = shape[0], shape[1]
    return Task(name, size, train, stop, test, offset, scale, digest)
