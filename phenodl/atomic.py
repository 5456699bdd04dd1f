"""Files that are whole or not there, whenever the writer is killed."""

import os
from collections.abc import Callable
from pathlib import Path


def write(path: Path, content: Callable[[Path], object]) -> None:
    """Writes under a temporary name, syncs to the disk, and renames.

    Args:
        path: of the file, in a folder that exists.
        content: writes a file of the name it is given.

    Raises:
        OSError: the operating system refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "greeting")
        ...     write(path, lambda temporary: temporary.write_text("hello"))
        ...     path.read_text()
        'hello'
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # it may be a stranger's link to another file
    try:
        content(temporary)
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Waits until a file, or the list of a folder's files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
