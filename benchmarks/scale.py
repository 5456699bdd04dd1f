"""``python -m benchmarks.scale``: what one run of a sweep needs, the figures of ``docs/scale.md``.

Bytes come from the shapes of state and records, floating-point operations from the program, seconds
from training and from checkpoints that are stored and restored here, on one device.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import transformer
from phenodl import checkpoint, probes, sweep, training
from phenodl.data import images
from phenodl.data.functions import sine_mixture
from phenodl.footprint import footprint
from phenodl.models import cnn, factorization, mlp
from phenodl.optim import adam, flow
from phenodl.protocol import Layout, Method, Probe, Problem
from phenodl.spikes import curvatures
from phenodl.sweep import Runs

ADAM = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
CURVATURE = (probes.loss(), curvatures.gradient_probe(which=["curvature_b"]))


class Sweep(NamedTuple):
    """A training whose runs are to be counted in millions."""

    problem: Problem
    method: Method
    runs: Runs
    probes: tuple[Probe, ...]
    layout: Layout
    chunk: int


def sweeps() -> Iterator[tuple[str, Sweep]]:
    """Networks that spike, and completions, as the experiments train them."""
    for name, problem, layout, count, chunk in (
        ("1-20-1 network", mlp.problem(*sine_mixture()), Layout(), 64, 500),
        ("CNN on 50 digits", cnn.problem(*images.digits(50)), Layout(width=4), 8, 20),
        ("transformer", transformer.random_tokens(), Layout(width=1), 2, 10),
    ):
        runs = sweep.product(key=jax.random.key(0), seed=range(count), learning_rate=0.01, b2=0.999)
        yield name, Sweep(problem, ADAM, runs, CURVATURE, layout, chunk)
    rank4 = flow.rk4(factorization.safe_step())
    for size, count, chunk in ((4, 512, 500), (200, 4, 10)):
        random = np.random.default_rng(0)
        data = {
            "target": random.standard_normal((count, size, size)),
            "mask": random.random((count, size, size)) < 0.5,
        }
        with jax.enable_x64(True):
            runs = sweep.product(
                key=jax.random.key(0), fold_in=("instance",), instance=data, init_std=1e-3
            )
            layout = factorization.small_layout() if size < 10 else Layout(width=1)
            found = Sweep(factorization.problem(), rank4, runs, (probes.loss(),), layout, chunk)
            yield f"{size} x {size} completion", found


def row(name: str, what: Sweep) -> list[str]:
    """The figures of one run."""
    problem, method, runs, measured, layout, length = what
    count = len(runs.id)
    options = {"probes": measured, "layout": layout}
    like = training.abstract_state(problem, method, runs, **options)
    state_bytes = sum(np.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    need = footprint(problem, method, runs, **options)
    flops = (need.flops + need.measuring_flops) / need.runs
    chunks = training.train(
        problem, method, runs, steps=6 * length, chunk=length, devices=jax.devices()[:1], **options
    )
    _, *timed, chunk = chunks  # the first one is compiled
    seconds = float(np.median([each.seconds for each in (*timed, chunk)]))
    records = sum(values.nbytes for record in chunk.records for values in record.values.values())
    with tempfile.TemporaryDirectory() as folder:
        clock = time.perf_counter()
        checkpoint.save(Path(folder), chunk.last_step, chunk.state())
        saved = time.perf_counter() - clock
        clock = time.perf_counter()
        checkpoint.restore(Path(folder), chunk.last_step, like)
        restored = time.perf_counter() - clock
    return [
        name,
        f"{need.parameters:,}",
        f"{state_bytes / count / 1e3:.3g}",
        f"{need.peak / need.runs / 1e3:.3g}",
        f"{flops:.3g}" if flops else "–",
        f"{1e6 * seconds / length / count:.3g}",
        f"{records / count / length:.3g}",
        f"{saved:.2f} / {restored:.2f}",
    ]


def main() -> None:
    print("| sweep | parameters | state, kB | peak, kB | FLOPs per step | µs per step | ", end="")
    print("results, B per step | checkpoint of the sweep, s |")
    print("| --- |" + " ---: |" * 7, flush=True)
    for name, what in sweeps():
        print(f"| {' | '.join(row(name, what))} |", flush=True)


if __name__ == "__main__":
    main()
