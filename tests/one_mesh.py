"""Trains a spiking and diverging sweep with a number of processes and devices; run by a test.

Usage: python one_mesh.py FOLDER PROCESSES PROCESS DEVICES PORT. Every process writes what its
chunks hold into the folder, row by row.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from problems import adam, sine_network

from phenodl import probes, sweep, training

STEPS = 600
ROWS = ("id", "loss", "state_id", "params")


def runs() -> sweep.Runs:
    """20 runs on the way to chaos and 20 that diverge at once, so that the rest is packed anew."""
    return sweep.product(key=jax.random.key(3), seed=range(20), learning_rate=[0.03, 1e38], b2=0.99)


def write(folder: Path, devices: list, **options) -> None:
    """One file per chunk and process: ids, losses, and how many runs took part in all."""
    chunks = training.train(
        sine_network(),
        adam,
        runs(),
        steps=STEPS,
        probes=[probes.loss()],
        devices=devices,
        **options,
    )
    for chunk in chunks:
        state = chunk.state()
        np.savez(
            folder / f"{chunk.first_step:06d}-{jax.process_index()}.npz",
            id=chunk.id,
            runs=chunk.runs,
            loss=chunk.records[0].values["loss"],
            state_id=state.id,
            params=state.params,
        )


if __name__ == "__main__":
    folder, (processes, process, devices, port) = Path(sys.argv[1]), map(int, sys.argv[2:])
    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    write(folder, jax.devices())
