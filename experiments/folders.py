"""What a directory holds: a run, runs in its folders, or something else."""

import os
from pathlib import Path

from experiments import config_file, files, lock
from experiments.errors import UserError


def holds_run(path: Path) -> bool:
    """Whether a run is stored there.

    Raises:
        UserError: the directory may not be looked into, or folders in it lie elsewhere.
    """
    with files.reported(path, "read"):
        found = (path / config_file.NAME).exists()
    if found:
        _require_own_folders(path)
    return found


def holds_anything(path: Path) -> bool:
    """Whether it is a directory with anything in it but a lock.

    Raises:
        UserError: the directory may not be looked into.
    """
    with files.reported(path, "read"):
        return path.is_dir() and any(each.name != lock.NAME for each in path.iterdir())


def runs_in(path: Path) -> list[Path]:
    """The path, if a run is stored there, or its folders in which runs are.

    Raises:
        UserError: there is none.
    """
    if holds_run(path):
        return [path]
    found = _folders(path)
    if not found:
        raise UserError(f"{path} holds no run (no {config_file.NAME})")
    return found


def require_free(path: Path) -> None:
    """Whether a directory is new, empty, or holds runs in its folders.

    Raises:
        UserError: it holds other files alone.
    """
    if holds_anything(path) and not any(map(_is_run, _folders(path))):
        raise UserError(f"{path} holds other files and no runs; choose another --out")


def _require_own_folders(path: Path) -> None:
    """Whether no folder is a link: what a run writes and removes there would lie elsewhere.

    Raises:
        UserError: one is.
    """
    for folder, names, _ in os.walk(path):
        for each in (Path(folder, name) for name in names):
            if each.is_symlink():
                raise UserError(f"{each} is a link; the folders of a run must lie in its directory")


def _folders(path: Path) -> list[Path]:
    """Those in which there is something that may be a run."""
    with files.reported(path, "read"):
        return sorted(each.parent for each in path.glob(f"*/{config_file.NAME}"))


def _is_run(path: Path) -> bool:
    try:
        return bool(config_file.read(path))
    except UserError:
        return False
