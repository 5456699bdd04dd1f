"""Files that are whole or not there."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            temporary.write_text(content)
        else:
            content(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error


def require_writable(path: Path) -> None:
    """Whether a directory can be made or written to, found out without writing.

    Raises:
        UserError: it cannot.
    """
    folder = path
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
