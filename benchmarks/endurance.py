"""``python -m benchmarks.endurance``: what it costs to lose nothing, and to use many devices.

- The share of a sweep's time that goes into parts and checkpoints, as the command line writes them.
- The same sweep on one device, on two and on eight virtual ones, which share the cores there are.
- Results of 256 seeds, 10,000 steps and 10 measurements: written with checksums, and read.

It goes by the clock on the wall and uses all cores, so nothing else should run.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import phenodl
from benchmarks.timing import spread
from experiments import recorder
from experiments.experiment import discover
from experiments.run_directory import RunDirectory
from phenodl import probes, results, sweep, training
from phenodl.data.functions import sine_mixture
from phenodl.models import mlp
from phenodl.optim import adam
from phenodl.protocol import Problem
from phenodl.spikes import curvatures
from phenodl.sweep import Runs
from phenodl.training import Chunk, Record

DEVICES = 8
METHOD = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
PROBES = (probes.loss(), curvatures.gradient_probe(which=["curvature_b"]))


@functools.cache
def problem() -> Problem:
    return mlp.problem(*sine_mixture())


def seeds(count: int) -> Runs:
    return sweep.product(
        key=jax.random.key(0), seed=range(count), learning_rate=0.01, b1=0.9, b2=0.999, eps=1e-8
    )


def share_of_writing(minutes: float) -> tuple[float, float]:
    """Seconds of a recorded sweep of about so many minutes, and those not spent in training."""
    runs = seeds(256)
    clock = time.perf_counter()
    for chunk in training.train(problem(), METHOD, runs, steps=4000, chunk=2000, probes=PROBES):
        speed = (chunk.last_step - chunk.first_step) / chunk.seconds  # the second is compiled
    steps = 1000 * round(60 * minutes * speed / 1000)
    outside = []

    def timed(*arguments: Any, **options: Any) -> Iterator[Chunk]:
        for chunk in training.train(*arguments, **options):
            clock = time.perf_counter()
            yield chunk
            outside.append(time.perf_counter() - clock)

    experiment = discover()["spikes-sine"]
    recorder.train, train = timed, recorder.train
    try:
        with tempfile.TemporaryDirectory() as folder:
            preset = experiment.presets["quick"]
            run = RunDirectory.prepare(Path(folder, "run"), experiment, "quick", preset)
            clock = time.perf_counter()
            recorder.Recorder(run).train(
                "sweep", problem(), METHOD, runs, steps=steps, chunk=steps // 40, probes=PROBES
            )
            return time.perf_counter() - clock, sum(outside)
    finally:
        recorder.train = train


def seconds_by_devices(rounds: int) -> dict[int, np.ndarray]:
    """Of one sweep that fills eight devices, compilation apart; the sides take turns."""
    runs = seeds(1024)
    counts = [1, 2, DEVICES]
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(-1, rounds):
        for count in np.roll(counts, number).tolist():
            devices = jax.devices()[:count]
            chunks = training.train(
                problem(), METHOD, runs, steps=2000, chunk=500, probes=PROBES, devices=devices
            )
            clock = time.perf_counter()
            for _ in chunks:
                pass
            if number >= 0:
                seconds[count].append(time.perf_counter() - clock)
    return {count: np.array(times) for count, times in seconds.items()}


def chunks_of_results(runs: int, steps: int, names: Sequence[str], parts: int) -> list[Chunk]:
    """As training hands them over."""
    random = np.random.default_rng(0)
    length = steps // parts

    def chunk(begin: int) -> Chunk:
        values = {name: random.random((runs, length), np.float32) for name in names}
        return Chunk(
            axes={"seed": np.arange(runs)},
            id=np.arange(runs),
            runs=runs,
            running=runs,
            first_step=begin,
            last_step=begin + length,
            total_steps=steps,
            records=(Record(1, "step", np.arange(begin, begin + length), values),),
            status=np.zeros(runs, np.int32),
            stopped_at=np.full(runs, -1, np.int32),
            loss=np.zeros(runs, np.float32),
            seconds=1.0,
            state=lambda: NotImplemented,
        )

    return [chunk(begin) for begin in range(0, steps, length)]


def seconds_of_results(rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """To write results and to read them."""
    chunks = chunks_of_results(256, 10_000, [f"measurement_{n}" for n in range(10)], parts=10)
    writing, reading = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            writing.append(_seconds(lambda place=Path(folder): _write(chunks, place)))
            reading.append(_seconds(lambda place=folder: phenodl.load(place)))
    return np.array(writing), np.array(reading)


def _write(chunks: Iterable[Chunk], folder: Path) -> None:
    for chunk in chunks:
        path = results.part_path(folder, "main", chunk.first_step)
        results.write_part(path, results.from_chunk(chunk))


def _seconds(work: Callable[[], object]) -> float:
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="length of the recorded sweep")
    parser.add_argument("--rounds", type=int, default=7, help="of the other measurements")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)

    print("| what | measured | target |\n| --- | ---: | --- |", flush=True)
    writing, reading = seconds_of_results(options.rounds)
    print(f"| 256 x 10,000 x 10 results written | {spread(writing)} s | ≤ 2 |", flush=True)
    print(f"| the same read | {spread(reading)} s | ≤ 1 |", flush=True)
    seconds = seconds_by_devices(options.rounds)
    for count, target in ((2, ""), (DEVICES, "≤ 1.15")):
        ratio = spread(seconds[count] / seconds[1])
        print(f"| 1024 runs on {count} devices / on one | {ratio} | {target} |", flush=True)
    whole, outside = share_of_writing(options.minutes)
    share = f"{100 * outside / whole:.2f} % of {whole:.0f} s"
    print(f"| parts and checkpoints of a recorded sweep | {share} | ≤ 2 % |", flush=True)


if __name__ == "__main__":
    main()
