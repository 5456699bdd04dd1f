"""Files as the command line writes them, with one line for what goes wrong."""

import contextlib
import csv
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from phenodl import atomic


def write(path: Path, content: str | Callable[[Path], object]) -> None:
    """Writes a file whole or not at all; makes the folders on the way.

    Args:
        path: of the file.
        content: its text, or a function that writes a file of the name it is given.

    Raises:
        UserError: the path cannot be written.
    """
    if isinstance(content, str):
        # What UTF-8 cannot say, such as bytes of a file's name, is written as JSON escapes it.
        content = functools.partial(
            Path.write_text, data=content, encoding="utf-8", errors="backslashreplace"
        )
    with reported(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, content)


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
