"""Runs several experiments, one after the other or side by side in processes of their own.

Python, compilation and figures keep one core busy at most; the others are free for another run. A
worker is told to stop by SIGTERM alone: Ctrl-C reaches all processes of a terminal, and a second
signal would cut the first one's checkpoint short.
"""

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from rich.console import Console

from experiments import execution, interrupts, ledger
from experiments.errors import UserError
from experiments.provenance import cores
from experiments.run_directory import RunDirectory

MOST = 4
"""Workers that are started unasked: each holds its own programs and results in memory."""

Outcome = tuple[RunDirectory, str | None]
"""A run that has ended, and what went wrong, if anything did."""


def default_count() -> int:
    """One worker per core; a single one where jax has an accelerator, whose memory it claims."""
    on_cpu = os.environ.get("JAX_PLATFORMS", "").lower() == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if not on_cpu and (plugins or importlib.util.find_spec("libtpu")):
        return 1
    return min(cores(), MOST)


def complete(
    runs: Sequence[RunDirectory], count: int, announce: Callable[[RunDirectory], None]
) -> Iterator[Outcome]:
    """Trains and analyzes runs, whatever happens to one of them.

    Args:
        runs: what is to be done.
        count: how many at a time.
        announce: called with each run when it begins.

    Yields:
        Each run when it has ended.

    Raises:
        KeyboardInterrupt: once every run at work has stored where it stands.
    """
    if min(count, len(runs)) > 1:
        yield from _side_by_side(runs, count, announce)
        return
    for run in runs:
        announce(run)
        yield run, _attempt(run, ledger.console(stderr=True))


def _side_by_side(
    runs: Sequence[RunDirectory], count: int, announce: Callable[[RunDirectory], None]
) -> Iterator[Outcome]:
    # The longest first, so that no core idles at the end for long.
    waiting = sorted(runs, key=lambda run: run.experiment.minutes[run.preset])
    processes: list[BaseProcess] = []
    busy: dict[Connection, RunDirectory] = {}

    def assign(pipe: Connection) -> None:
        run = waiting.pop()
        announce(run)
        with contextlib.suppress(OSError):  # whoever has died is met below
            pipe.send(run)
        busy[pipe] = run

    try:
        for _ in range(min(count, len(runs))):
            assign(_hire(processes))
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                run = busy.pop(pipe)
                try:
                    yield run, pipe.recv()
                except (EOFError, OSError):
                    yield run, "its process has died, perhaps for lack of memory"
                    pipe = _hire(processes) if waiting else pipe
                if waiting:
                    assign(pipe)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _hire(processes: list[BaseProcess]) -> Connection:
    """Starts a process, and gives the pipe to it."""
    context = multiprocessing.get_context("spawn")  # what holds jax must not be forked
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    processes.append(process)
    return ours


def _work(pipe: Connection) -> None:
    """The life of a worker: one run after the other until it is told to stop."""
    interrupts.heed_once()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Two bars would write over each other: progress comes in lines.
    console = ledger.console(stderr=True, terminal=False)
    try:
        while True:
            pipe.send(_attempt(pipe.recv(), console))
    except (EOFError, KeyboardInterrupt):
        pass


def _attempt(run: RunDirectory, console: Console) -> str | None:
    """Completes a run; gives what went wrong."""
    try:
        execution.complete(run, console)
    except UserError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None
