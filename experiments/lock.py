"""One process at a time in a run directory."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from experiments import files
from experiments.errors import UserError

NAME = ".lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a directory, which is made if need be.

    The operating system ends the lock with the process, however that ends. A new directory in which
    nothing has been written is removed again.

    Raises:
        UserError: another process holds it, or the directory cannot be written.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    with files.reported(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / NAME, "a")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder} is in use by another process") from None
        except OSError:
            pass  # some network file systems have no locks
        try:
            yield
        finally:
            if new and [path.name for path in folder.iterdir()] == [NAME]:
                (folder / NAME).unlink()
                with contextlib.suppress(OSError):
                    for each in new:
                        each.rmdir()
