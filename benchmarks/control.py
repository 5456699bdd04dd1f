"""What controllers of spikes and their rivals cost per step, on the six trainings that spike.

The methods are those of the experiment ``control-interventions``, with its settings. All of them
record the loss and nothing else.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import optax

from benchmarks import timing
from benchmarks.timing import Row, Side
from experiments.control import tasks
from experiments.control.interventions import methods
from experiments.control.interventions.config import ADAM, OURS, Settings
from experiments.control.names import DEEP, DIGITS, FREQUENT, LANGUAGE, SEQUENCE, SINE
from phenodl import probes, training

FLAT = "flattened"
"""The controller on one vector instead of many small arrays."""

MEASURED = {
    ADAM: "plain Adam",
    OURS: "guarded",
    FLAT: "guarded, optax.flatten around it",
    "scale_exact": "step scaled, by curvature C",
    "raise_all_exact": "v raised, by curvature B",
    "amsgrad": "AMSGrad",
    "stable_adamw": "StableAdamW",
    "spam": "SPAM",
    "clip_global": "gradient clipped by its norm",
    "clip_adaptive": "adaptive gradient clipping",
}
"""What the methods are called in the tables."""

TARGETS = {OURS: "≤ 1.1", FLAT: "≤ 1.1"}
ROWS = [Row(name, MEASURED[ADAM], TARGETS.get(key, "")) for key, name in MEASURED.items()]


class Size(NamedTuple):
    """How much of a training is timed at a time."""

    seeds: int
    chunk: int
    unit: str


SIZES = {
    SINE: Size(16, 1000, "µs"),
    FREQUENT: Size(16, 300, "µs"),
    DEEP: Size(16, 300, "µs"),
    DIGITS: Size(8, 20, "ms"),
    SEQUENCE: Size(1, 20, "ms"),
    LANGUAGE: Size(1, 10, "ms"),
}


def report(quick: bool) -> Iterator[str]:
    """A table for each training."""
    rounds = 3 if quick else 15
    for name, size in SIZES.items():
        yield f"{name}, {size.seeds} seeds:\n"
        with jax.enable_x64(tasks.task(name).x64):
            seconds = timing.interleave(sides(name, list(MEASURED), size, rounds), rounds)
        yield from timing.table(seconds, ROWS, size.unit)
        yield ""


def sides(task: str, chosen: Sequence[str], size: Size, rounds: int) -> dict[str, Side]:
    """The training under each of the methods, by what the tables call them.

    Args:
        task: one of the trainings.
        chosen: methods of the experiment.
        size: of a piece of work.
        rounds: how many of them there will be.
    """
    whole = tasks.task(task)

    def side(name: str) -> Side:
        known = OURS if name == FLAT else name
        optimizer = methods.optimizer(known, whole.steps)
        flat = training.from_optax(lambda hyper: optax.flatten(optimizer(hyper)))
        return timing.engine(
            whole.problem,
            flat if name == FLAT else training.from_optax(optimizer),
            tasks.runs(whole, range(size.seeds), setting=getattr(Settings(), known, 0.0)),
            chunk=size.chunk,
            rounds=rounds,
            probes=(probes.loss(),),
            layout=whole.layout,
        )

    return {MEASURED[name]: side(name) for name in chosen}
