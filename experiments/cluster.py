"""Several processes that train one sweep: how they meet, agree, wait for each other, and part.

The engine is jax's own distributed runtime; what starts the processes is SLURM, a TPU pod,
Kubernetes or a shell. All of them see the same run directory. The first one writes there what
belongs to all; each writes results and checkpoints of its own runs.

A single process passes through every function here without waiting.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from experiments.arguments import Machines
from experiments.errors import UserError

HEARTBEAT_SECONDS = 20
"""After which a process that is no longer heard of is lost, and jax ends the others."""

_SECONDS_TO_SPEAK = 2.0
"""Once the first process has ended, jax ends the others at once, whatever they are saying."""

_SLURM = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


def several(machines: Machines, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several: by its flags, or as a task of a SLURM step.

    Raises:
        UserError: the flags contradict each other.
    """
    numbers = (machines.num_processes, machines.process_id)
    if machines.coordinator is None:
        if numbers != (None, None):
            raise UserError("--num-processes and --process-id need --coordinator HOST:PORT")
        return in_slurm_step(environment)
    if machines.coordinator == "auto":
        if numbers != (None, None):
            raise UserError("--coordinator auto finds --num-processes and --process-id itself")
        return True
    host, _, port = machines.coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator must be HOST:PORT or auto, got {machines.coordinator!r}")
    count, place = numbers
    if count is None or place is None or not 0 <= place < count:
        raise UserError(
            "--coordinator needs --num-processes N and --process-id from 0 to N - 1,"
            f" got {count} and {place}"
        )
    return count > 1


def in_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether ``srun`` has started this process beside others; ``sbatch`` alone does not.

    Example:
        >>> in_slurm_step({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"})
        False
    """
    return all(name in environment for name in _SLURM) and environment["SLURM_NTASKS"] != "1"


def join(machines: Machines, go_on: str) -> None:
    """Meets the other processes, before the jax backend starts.

    Args:
        machines: the flags; without a coordinator jax detects the cluster.
        go_on: the command that goes on once a process is lost.

    Raises:
        UserError: they do not come.
    """
    import jax

    _leave_last_words(go_on)
    detected = machines.coordinator in (None, "auto")
    try:
        jax.distributed.initialize(
            None if detected else machines.coordinator,
            machines.num_processes,
            machines.process_id,
            cluster_detection_method=None if detected else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes of the run do not find each other ({reason})") from error


def place() -> int:
    """The number of this process, 0 for the first or only one."""
    import jax

    return jax.process_index()


def count() -> int:
    """How many processes there are."""
    import jax

    return jax.process_count()


def alone() -> bool:
    """Whether there is no other process."""
    return count() == 1


def devices(chosen: str | int) -> list[Any]:
    """The devices of all processes, or so many of each.

    Raises:
        UserError: there are fewer.
    """
    import jax

    if chosen == "all":
        return jax.devices()
    if len(jax.local_devices()) < int(chosen):
        raise UserError(f"--devices {chosen}: there are {len(jax.local_devices())}")
    places = range(count())
    return [device for place in places for device in jax.local_devices(place)[: int(chosen)]]


def agree(flag: bool) -> bool:
    """Whether it is so in any of the processes; waits for all of them."""
    import numpy as np
    from jax.experimental import multihost_utils

    return flag if alone() else bool(multihost_utils.process_allgather(np.array(flag)).any())


def meet() -> None:
    """Waits for all processes."""
    agree(True)


def lead(action: Callable[[], object]) -> None:
    """Lets the first process do something for all, the others waiting; all stop where it fails.

    Raises:
        UserError: the action's own in the first process, and in the others that it has failed.
    """
    failure = None
    if place() == 0:
        try:
            action()
        except UserError as error:
            failure = error
    failed = agree(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise UserError("the first process cannot go on; it says why")


@contextlib.contextmanager
def held_by_first(context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """A context that the first process enters for all.

    Raises:
        UserError: as :func:`lead`.
    """
    with contextlib.ExitStack() as stack:
        lead(lambda: stack.enter_context(context))
        yield


def part() -> None:
    """Ends the meeting: from here on every process works alone."""
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def leave(status: int) -> NoReturn:
    """Ends this process, without waiting for the others if it fails."""
    jax = sys.modules.get("jax")
    if status and jax is not None and jax.distributed.is_initialized():
        _dismiss_witness()
        sys.stdout.flush()
        sys.stderr.flush()
        if place() == 0:
            time.sleep(_SECONDS_TO_SPEAK)
        os._exit(status)
    sys.exit(status)


_witnesses: list[subprocess.Popen[bytes]] = []

_WITNESS = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not sys.stdin.buffer.read():
    print(sys.argv[1], file=sys.stderr, flush=True)
"""


def _leave_last_words(go_on: str) -> None:
    """Has a line printed if this process is ended from outside, or by jax when another is lost.

    Neither leaves Python any time to say so. A small process listens for the end of this one.
    """
    words = (
        f"error: this process (number {os.getpid()}) was ended, or it has ended because another"
        f" process of the run is lost; go on with: {go_on}"
    )
    witness = subprocess.Popen(
        [sys.executable, "-c", _WITNESS, words],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    _witnesses.append(witness)
    atexit.register(_dismiss_witness)


def _dismiss_witness() -> None:
    """This process ends by itself."""
    while _witnesses:
        _witnesses.pop().communicate(b".")
