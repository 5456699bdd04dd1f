"""Timing of several ways to do some work, side by side in one process."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from phenodl import probes, training
from phenodl.protocol import Layout, Method, Probe, Problem, Transform
from phenodl.sweep import Runs

Side = Callable[[], int]
"""Does a piece of work when called, and says how many steps of how many runs it was, multiplied."""


class Row(NamedTuple):
    """One line of a table: a side, its reference, and the ratio that is aimed at."""

    side: str
    reference: str
    target: str = ""


def interleave(sides: Mapping[str, Side], rounds: int) -> dict[str, np.ndarray]:
    """Processor seconds per run and step of every side in every round.

    Processor time, of all threads, leaves out what other processes take. The sides take turns, in
    an order that changes from round to round, so that what remains of the machine's moods meets all
    of them alike. One round goes before, for compilation.
    """
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        for name in np.roll(names, number):
            clock = time.process_time()
            work = sides[name]()
            elapsed = (time.process_time() - clock) / work
            if number >= 0:
                seconds[name].append(elapsed)
    return {name: np.array(times) for name, times in seconds.items()}


def engine(
    problem: Problem,
    method: Method,
    runs: Runs,
    *,
    chunk: int,
    rounds: int,
    probes: tuple[Probe, ...] = (),
    transforms: tuple[Transform, ...] = (),
    layout: Layout = Layout(),
) -> Side:
    """A side that trains all runs by one chunk per call, on one device."""
    chunks = training.train(
        problem,
        method,
        runs,
        steps=chunk * (rounds + 1),
        chunk=chunk,
        probes=probes,
        transforms=transforms,
        layout=layout,
    )

    def advance() -> int:
        done = next(chunks)
        return (done.last_step - done.first_step) * len(done.id)

    return advance


def engines(
    problem: Problem,
    method: Method,
    runs: Runs,
    measured: Mapping[str, Sequence[Probe]],
    *,
    chunk: int,
    rounds: int,
    layout: Layout = Layout(),
) -> dict[str, Side]:
    """The same training by name, each recording the loss and what its own probes measure."""
    return {
        name: engine(
            problem,
            method,
            runs,
            chunk=chunk,
            rounds=rounds,
            probes=(probes.loss(), *extra),
            layout=layout,
        )
        for name, extra in measured.items()
    }


def table(seconds: Mapping[str, np.ndarray], rows: list[Row], unit: str = "µs") -> Iterator[str]:
    """A table in Markdown: medians over the rounds, with quartiles; ratios within each round."""
    scale = {"ns": 1e9, "µs": 1e6, "ms": 1e3}[unit]
    yield f"| work | {unit} per run and step | ratio | to | target |"
    yield "| --- | ---: | ---: | --- | --- |"
    for side, reference, target in rows:
        if side in seconds:
            ratio = spread(seconds[side] / seconds[reference]) if side != reference else "1"
            cells = [side, spread(scale * seconds[side]), ratio, reference, target]
            yield f"| {' | '.join(cells)} |"


def spread(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    digits = max(0, 2 - int(np.floor(np.log10(middle))))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
