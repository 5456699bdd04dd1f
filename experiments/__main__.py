"""The command line: ``python -m experiments``."""

import io
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from experiments import arguments, cluster, commands, interrupts, parsing
from experiments.errors import UserError, printable
from experiments.experiment import discover

_HANDLERS = {
    arguments.List: commands.list_experiments,
    arguments.Run: commands.run,
    arguments.Reproduce: commands.reproduce,
    arguments.Resume: commands.resume,
    arguments.Merge: commands.merge,
    arguments.Report: commands.report,
    arguments.Analyze: commands.analyze,
    arguments.Compare: commands.compare,
}


def main(argv: Sequence[str] | None = None, package: str = "experiments") -> int:
    """Runs one command.

    Args:
        argv: its words; by default those of this process.
        package: where the experiments live.

    Returns:
        The exit status: 0; 1, an experiment failed or ``--strict`` found a surprise; 2, a mistake
        by the user; 130, interrupted.
    """
    try:
        catalogue = discover(package)
        command = parsing.parse(sys.argv[1:] if argv is None else argv, catalogue)
        return _HANDLERS[type(command)](command, catalogue)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def program(package: str = "experiments") -> NoReturn:
    """The life of a process of the command line, to its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    interrupts.heed_once()
    _quieten_orbax()
    status = main(package=package)
    interrupts.ignore()
    cluster.leave(status)


def _quieten_orbax() -> None:
    """Where orbax fails, we say so in a line; it has a traceback for each of its open writes."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    show = sys.unraisablehook

    def show_others(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = show_others


if __name__ == "__main__":
    program()
