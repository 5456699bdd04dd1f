"""Files that are whole or not there."""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError


def write(path: Path, content: str | Callable[[Path], object]) -> None:
    """Writes under a temporary name, syncs, and renames; makes the folders on the way.

    Args:
        path: of the file.
        content: its text, or a function that writes a file of the name it is given.

    Raises:
        UserError: the path cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with reported(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            content(temporary)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextlib.contextmanager
def reported(path: Path, verb: str) -> Iterator[None]:
    """Reports what the operating system refuses as the user's: ``PATH cannot be VERB (why)``.

    Raises:
        UserError: the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be {verb} ({error.strerror or error})") from error


def require_writable(path: Path) -> None:
    """Whether a directory can be made or written to, found out without writing.

    Raises:
        UserError: it cannot.
    """
    folder = path
    with reported(path, "written"):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise UserError(f"{path} cannot be written ({folder} is no writable directory)")


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table as text, its columns in the order in which the rows bring them.

    Example:
        >>> print(to_csv([{"seed": 0}, {"seed": 1, "steps": 5}]), end="")
        seed,steps
        0,
        1,5
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _sync(path: Path) -> None:
    """Waits until a file, or the list of a folder's files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
