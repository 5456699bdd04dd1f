"""``python -m benchmarks.completion_sweep``: the time of a whole sweep, on one device and on two.

10,000 small completions from an initial standard deviation of 1e-8 to a loss of 1e-12 per observed
entry, through the engine, with polish and with finished runs dropped: once with the runs last in
blocks, once vmapped with matmul. Its own process, because it needs all cores: the times are those
of the clock on the wall, so that the machine should have nothing else to do.
"""

import argparse
import os
import time
from collections.abc import Sequence

import jax
import numpy as np

from phenodl import sweep, training
from phenodl.completion import probes
from phenodl.completion.polish import polish
from phenodl.data import matrices
from phenodl.models import factorization
from phenodl.optim import flow
from phenodl.protocol import Layout
from phenodl.sweep import Runs

ONE, TWO, MATMUL = "runs last, one device", "runs last, two devices", "vmapped matmul, one device"
STEPS, CHUNK = 20_000, 500


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args(arguments).quick
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    count, rounds = (1000, 2) if quick else (10_000, 3)
    devices = jax.devices()
    small, large = factorization.small_layout(), Layout(width=64)
    settings = {ONE: (small, devices[:1]), TWO: (small, devices), MATMUL: (large, devices[:1])}

    few = runs(64)
    for layout, on in settings.values():
        train(few, layout, on, steps=CHUNK)  # compiles
    many = runs(count)
    seconds = {name: [] for name in settings}
    converged = {}
    for number in range(rounds):
        for name in np.roll(list(settings), number):
            clock = time.perf_counter()
            converged[name] = train(many, *settings[name], steps=STEPS)
            seconds[name].append(time.perf_counter() - clock)

    print(f"| sweep of {count} runs | seconds | ratio | to | target | converged |")
    print("| --- | ---: | ---: | --- | --- | ---: |")
    for name, reference, target in ((ONE, ONE, ""), (MATMUL, ONE, "≥ 10"), (ONE, TWO, "≥ 1.7")):
        ratio = np.array(seconds[name]) / np.array(seconds[reference])
        cells = [name, spread(np.array(seconds[name])), spread(ratio), reference, target]
        print(f"| {' | '.join(cells)} | {converged[name]:.1%} |")


def runs(count: int) -> Runs:
    """Instances of rank 1 to 3 with 7 to 15 entries of 4 x 4 matrices observed."""
    random = np.random.default_rng(0)
    target = matrices.low_rank_matrices(random, random.integers(1, 4, count), (4, 4))
    mask = matrices.random_masks(random, random.integers(7, 16, count), (4, 4))
    instance = {"target": target, "mask": mask}
    return sweep.product(key=jax.random.key(0), instance=instance, init_std=1e-8)


def train(runs: Runs, layout: Layout, devices: Sequence, steps: int) -> float:
    """The share of runs that reach the loss."""
    chunks = training.train(
        factorization.problem(),
        flow.rk4(factorization.safe_step()),
        runs,
        steps=steps,
        chunk=CHUNK,
        transforms=(polish(CHUNK),),
        stop=probes.fitted(1e-12),
        layout=layout,
        devices=devices,
    )
    converged = set()  # a run that has ended stays in its block until enough of them have
    for chunk in chunks:
        converged.update(chunk.id[chunk.status == training.CONVERGED])
    return len(converged) / len(runs.id)


def spread(values: np.ndarray) -> str:
    """The median, with the extremes."""
    return f"{np.median(values):.3g} ({values.min():.3g} to {values.max():.3g})"


if __name__ == "__main__":
    main()
