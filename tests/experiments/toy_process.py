"""The command line on the package ``toys``, as a process of its own that tests can kill.

Usage: python toy_process.py COMMAND ... Checkpoints are taken at every border. In the environment
``PHENODL_TOY_PAUSE`` is how many seconds pass after each part, and ``PHENODL_TOY_FULL`` says where
the disk is full: in the third write of a ``part`` or ``checkpoint``.
"""

import os
import resource
import signal
import time
from itertools import count

from experiments import cluster, recorder
from experiments.__main__ import program
from phenodl import checkpoint, results

PAUSE = float(os.environ.get("PHENODL_TOY_PAUSE", "0"))
FULL = os.environ.get("PHENODL_TOY_FULL")


def fill_disk():
    """No file can grow beyond some bytes, which is how a full disk looks to who writes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))


def disturbed(write, kind, calls):
    def call(*arguments):
        if kind == FULL and next(calls) == 3:
            fill_disk()
        write(*arguments)
        if kind == "part":
            time.sleep(PAUSE)

    return call


if __name__ == "__main__":
    recorder.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    cluster.HEARTBEAT_SECONDS = 5
    results.write_part = disturbed(results.write_part, "part", count(1))
    checkpoint.save = disturbed(checkpoint.save, "checkpoint", count(1))
    program(package="toys")
