"""Checkpoints of the training state; the one module that knows orbax.

A state is stored as named arrays, one per leaf, the name being its path in the pytree. So a stored
state is compared by name with the one that a program expects, and what differs can be said. Where
several processes train together they store their rows together, and any number of them can read
them. Beside ``STEP`` the file ``STEP.sha256`` has the checksums of its files, in the format of
``sha256sum``. It is written last: what has none is half a checkpoint.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp

from phenodl import atomic
from phenodl.training import TrainState

_KEPT = 2
_ID = ".id"


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from; the message says which and why."""


class DamagedError(CheckpointError):
    """It cannot be read, is not what was written, or does not hold all runs."""


class MisfitError(CheckpointError):
    """It is sound, but the state of another program."""


def save(directory: Path, step: int, state: TrainState) -> None:
    """Stores a state under a step; when it returns all is on disk. The last two are kept.

    Several processes call it together, each with the rows that it holds.

    Args:
        directory: of the checkpoints of a training.
        step: that comes next.
        state: from ``chunk.state()``.

    Raises:
        OSError: the operating system refuses.

    Example:
        >>> import tempfile, jax, optax
        >>> from phenodl import sweep, training
        >>> from phenodl.protocol import Problem
        >>> bowl = Problem(lambda *_: jax.numpy.ones(2), lambda x, batch: (x**2).sum())
        >>> runs = sweep.product(key=jax.random.key(0), seed=range(3))
        >>> sgd = training.from_optax(lambda hyper: optax.sgd(0.1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for chunk in training.train(bowl, sgd, runs, steps=4, chunk=2):
        ...         save(Path(folder), chunk.last_step, chunk.state())
        ...     like = training.abstract_state(bowl, sgd, runs)
        ...     steps(Path(folder)), restore(Path(folder), 4, like).params.shape
        ([2, 4], (3, 2))
    """
    path = directory / str(step)
    directory.mkdir(parents=True, exist_ok=True)
    # Orbax stores no empty arrays, and they need none.
    arrays = {name: leaf for name, leaf in _named(state).items() if _size(leaf)}
    try:
        ocp.save(str(path.absolute()), _of_all_processes(arrays), overwrite=True)
    except ValueError as error:  # so orbax passes on what the operating system refuses
        if refused := re.search(r"os_error_code='(\d+)'", str(error)):
            number = int(refused[1])
            raise OSError(number, os.strerror(number)) from error
        raise
    if jax.process_index() == 0:
        digests = _digests(path)
        atomic.write(_checksums(path), lambda file: file.write_text(digests, encoding="utf-8"))
        for earlier in steps(directory)[:-_KEPT]:
            _remove(directory / str(earlier))


def steps(directory: Path) -> list[int]:
    """The steps of all whole checkpoints, the last one last."""
    names = {path.name for path in directory.glob("*")}
    return sorted(int(name) for name in names if name.isdecimal() and f"{name}.sha256" in names)


def restore(directory: Path, step: int, like: TrainState) -> TrainState:
    """The state of all runs at a step, in the order of their ids.

    Args:
        directory: of the checkpoints of a training.
        step: as given to :func:`save`.
        like: shapes and dtypes, from :func:`phenodl.training.abstract_state`.

    Raises:
        DamagedError: the checkpoint cannot be read, or does not hold every run once.
        MisfitError: the stored arrays differ from these in name, shape or dtype.
    """
    path, expected = directory / str(step), _named(like)
    stored = _read(path, {name: leaf for name, leaf in expected.items() if _size(leaf)})
    ids, runs = stored[_ID], like.id.shape[0]
    order = np.argsort(ids, kind="stable")
    order = order[ids[order] >= 0]
    if len(order) > runs:
        raise MisfitError(f"{path}: holds {len(order)} runs, this code has {runs}")
    if len(np.unique(ids[order])) < runs:
        raise DamagedError(f"{path}: holds {len(np.unique(ids[order]))} of {runs} runs")
    in_order = np.array_equal(order, np.arange(len(ids)))

    def rows(name: str, leaf: Any) -> np.ndarray:
        if not _size(leaf):
            return np.empty(leaf.shape, leaf.dtype)
        values = stored.pop(name)  # a large model is never in memory twice
        return values if in_order else values[order]

    leaves = [rows(name, leaf) for name, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def discard_after(directory: Path, step: int) -> None:
    """Removes what lies beyond a step, and what a killed process has left half-written."""
    kept = [directory / str(each) for each in steps(directory) if each <= step]
    for path in set(directory.glob("*")).difference(kept, map(_checksums, kept)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _of_all_processes(arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
    """The rows of all processes as global arrays, padded with id -1 to as many from each."""
    if jax.process_count() == 1:
        return arrays
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh([firsts[process] for process in sorted(firsts)], ("process",))
    sharding = NamedSharding(mesh, P("process"))
    rows = len(arrays[_ID])
    most = int(multihost_utils.process_allgather(np.array(rows)).max())

    def spread(name: str, leaf: np.ndarray) -> jax.Array:
        padding = np.full((most - rows, *leaf.shape[1:]), -1 if name == _ID else 0, leaf.dtype)
        return jax.make_array_from_process_local_data(sharding, np.concatenate([leaf, padding]))

    return {name: spread(name, leaf) for name, leaf in arrays.items()}


def _read(path: Path, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The stored arrays, all rows of all processes.

    Raises:
        DamagedError, MisfitError: see :func:`restore`.
    """
    try:
        checksums = _checksums(path).read_text(encoding="utf-8")
        sound = checksums == _digests(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path}: damaged ({type(error).__name__})") from error
    if not sound:
        raise DamagedError(f"{path}: damaged, it differs from {_checksums(path).name}")
    metadata = ocp.metadata(str(path.absolute())).metadata
    for name in sorted(metadata.keys() | expected.keys()):
        found, wanted = (_describe(leaves.get(name)) for leaves in (metadata, expected))
        if found != wanted:
            raise MisfitError(f"{path}: {name} is {found}, this code expects {wanted}")
    arrays = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in metadata.items()}
    return dict(ocp.load(str(path.absolute()), arrays))


def _remove(path: Path) -> None:
    """Removes a checkpoint, which is none any more from the first moment on."""
    _checksums(path).unlink()
    shutil.rmtree(path)


def _checksums(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> str:
    """The checksum of every file of a checkpoint; the formats beneath do not notice every flip."""
    lines = []
    for each in sorted(each for each in path.rglob("*") if each.is_file()):
        with each.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {each.relative_to(path.parent)}\n")
    return "".join(lines)


def _named(state: TrainState) -> dict[str, Any]:
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _size(leaf: Any) -> int:
    """Numbers per run."""
    return int(np.prod(leaf.shape[1:], dtype=int))


def _describe(leaf: Any) -> str:
    return "missing" if leaf is None else f"{leaf.dtype}{list(leaf.shape[1:])} per run"
