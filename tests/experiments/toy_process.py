"""The command line on the package ``toys``, as a process of its own that tests can kill.

Usage: python toy_process.py COMMAND ... Checkpoints are taken at every border, and
``PHENODL_TOY_PAUSE`` seconds pass after each part.
"""

import os
import time

from experiments import cluster, recorder
from experiments.__main__ import program
from phenodl import results

write_part = results.write_part


def write_and_pause(path, part):
    write_part(path, part)
    time.sleep(float(os.environ.get("PHENODL_TOY_PAUSE", "0")))


if __name__ == "__main__":
    recorder.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    cluster.HEARTBEAT_SECONDS = 5
    results.write_part = write_and_pause
    program(package="toys")
