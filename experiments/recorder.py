"""Drives training for an experiment: result parts, checkpoints, progress, resumption.

A training is identified by its name in the run directory. What is complete there is not trained
again; what was interrupted goes on from its last checkpoint. Where several processes train
together, all of them call the same functions with the same arguments.
"""

import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import xarray as xr
from rich.console import Console

from experiments import cluster, files, interrupts, parts
from experiments.arguments import PROGRAM
from experiments.errors import UserError, printable
from experiments.progress import TrainingProgress
from experiments.run_directory import RunDirectory
from phenodl import checkpoint, results
from phenodl.protocol import Method, Problem
from phenodl.sweep import Runs
from phenodl.training import RUNNING, Chunk, TrainState, abstract_state, train

SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Recorder:
    """Trains into a run directory.

    Args:
        run: where.
        console: for the progress; None is silent.
        devices: to train on, of all processes; by default the local ones.
        retrain: whether to train again what is lost or does not fit, which is refused otherwise.

    Attributes:
        trainings: the names of those that have ended, in their order.
    """

    def __init__(
        self,
        run: RunDirectory,
        console: Console | None = None,
        devices: Sequence[Any] | None = None,
        retrain: bool = False,
    ):
        self._run = run
        self._console = console
        self._devices = jax.local_devices() if devices is None else list(devices)
        self._retrain = retrain
        self._begun = False
        self.trainings: list[str] = []

    def train(
        self, name: str, problem: Problem, method: Method, runs: Runs, **training: Any
    ) -> xr.Dataset:
        """Trains with :func:`phenodl.training.train`, or goes on where it was interrupted.

        Args:
            name: of this training, unique in the experiment: lower-case words joined by hyphens,
                each starting with a letter.
            problem: what is minimised.
            method: how the parameters move.
            runs: the sweep.
            **training: further arguments of :func:`phenodl.training.train`.

        Returns:
            The results, over the axes of the sweep. Those of a shard are withheld: asking for any
            of them raises :class:`UserError`.
        """
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*", name):
            raise ValueError(f"name must be lower-case words joined by hyphens, got {name!r}")
        training.setdefault("devices", self._devices)
        if self._run.shard is not None:
            runs = self._run.shard.take(runs, name)
        leading = self._leading(name) if self._run.exists else []
        if cluster.agree(not parts.complete(leading)):
            shapes = {key: training[key] for key in ("probes", "layout") if key in training}
            like = abstract_state(problem, method, runs, **shapes)
            start, reached = self._restore(name, leading, like)
            self._begin()
            cluster.lead(lambda: self._discard_after(name, reached))
            chunks = train(problem, method, runs, start=start, **training)
            written = self._follow(name, chunks)
            cluster.meet()
            before = [part for part in leading if part.attrs["last_step"] <= reached]
            leading = [*before, *written] if cluster.alone() else self._leading(name)
        else:  # killed in its last checkpoint, perhaps
            cluster.lead(lambda: self._discard_after(name, leading[-1].attrs["last_step"]))
        self.trainings.append(name)
        return results.merge(leading) if self._run.shard is None else _withheld(name)

    def devices(self, most: int) -> list[Any]:
        """At most so many devices for a training; all where several processes train together."""
        return self._devices[:most] if cluster.alone() else self._devices

    def _leading(self, name: str) -> list[xr.Dataset]:
        return list(parts.leading(self._run.path, self._run.stored, name))

    def _checkpoints(self, name: str) -> Path:
        return self._run.path / "checkpoints" / name

    def _begin(self) -> None:
        """Creates the run directory before the first training of this session."""
        if not self._begun:
            run = self._run
            cluster.lead(run.create)
            RunDirectory.prepare(run.path, run.experiment, run.preset, run.config, run.shard)
            self._begun = True

    def _restore(
        self, name: str, leading: Sequence[xr.Dataset], like: TrainState
    ) -> tuple[TrainState | None, int]:
        """The newest state to go on from, or None to start anew, and its step.

        Args:
            name: of the training.
            leading: its parts. The results up to a checkpoint must be there to go on from it.
            like: shapes and dtypes of the state.

        Raises:
            UserError: a part is missing, or the state is that of another program.
        """
        folder, borders = self._checkpoints(name), [part.attrs["last_step"] for part in leading]
        stored = checkpoint.steps(folder)
        if not self._retrain and stored and stored[-1] not in borders:
            first, last = (borders[-1] if borders else 0), stored[-1]
            self._refuse(f"results of {name} from step {first} to {last} are missing")
        for step in sorted(set(stored).intersection(borders), reverse=True):
            try:
                state = checkpoint.restore(folder, step, like)
            except checkpoint.DamagedError as error:
                self.say(f"left out: {error}")
            except checkpoint.MisfitError as error:
                if not self._retrain:
                    self._refuse(str(error))
                self.say(f"left out: {error}")
            else:
                self.say(f"{name} goes on from step {step} of its results")
                return state, step
        if borders or stored:
            self.say(f"{name} goes on from step 0 of its results")
        return None, 0

    def _refuse(self, reason: str) -> NoReturn:
        command = f"{PROGRAM} resume {self._run.path} --retrain"
        raise UserError(f"{reason}; to train them again: {command}")

    def _discard_after(self, name: str, step: int) -> None:
        """Removes what lies beyond a step, and what a killed process has left half-written."""
        checkpoint.discard_after(self._checkpoints(name), step)
        for path in results.part_paths(self._run.path, name):
            if parts.first_step(path) >= step:
                path.unlink()
        for path in self._run.path.glob(f".part-{name}-[0-9]*.tmp"):
            path.unlink()

    def say(self, text: str) -> None:
        """Tells the user something, where the progress is shown."""
        if self._console is not None:
            self._console.print(printable(text), soft_wrap=True)

    def _follow(self, name: str, chunks: Iterator[Chunk]) -> list[xr.Dataset]:
        """Writes, shows and now and then checkpoints what training hands over; gives the parts."""
        saved, written = time.monotonic(), None
        origin = parts.origin(self._run.stored, name)
        written_parts = []
        with TrainingProgress(f"{self._run.experiment.name} · {name}", self._console) as progress:
            try:
                for chunk in chunks:
                    last = chunk.last_step == chunk.total_steps or chunk.running == 0
                    if len(chunk.id):
                        written_parts.append(self._write(name, chunk, origin, last))
                    written = chunk
                    speed = (chunk.last_step - chunk.first_step) / chunk.seconds
                    steps = (chunk.last_step, chunk.total_steps)
                    progress.update(*steps, speed, _median_loss(chunk), last)
                    due = last or time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS
                    if cluster.agree(due):
                        self._save(name, chunk)
                        saved = time.monotonic()
                    interrupts.check()
            except KeyboardInterrupt:
                # The chunk at hand may have no part yet: a checkpoint beyond it would leave a hole.
                # Several processes store together, but each may be interrupted somewhere else.
                if written is not None and cluster.alone():
                    self._save(name, written)
                raise
        return written_parts

    def _save(self, name: str, chunk: Chunk) -> None:
        folder = self._checkpoints(name)
        with interrupts.deferred(), files.reported(folder / str(chunk.last_step), "written"):
            checkpoint.save(folder, chunk.last_step, chunk.state())

    def _write(self, name: str, chunk: Chunk, origin: dict[str, str], last: bool) -> xr.Dataset:
        path = results.part_path(self._run.path, name, chunk.first_step, cluster.place())
        with interrupts.deferred(), files.reported(path, "written"):
            part = results.from_chunk(chunk)
            parts.write(path, part, origin, last)
        return part


def _median_loss(chunk: Chunk) -> float:
    running = chunk.loss[chunk.status == RUNNING]
    losses = running if running.size else chunk.loss
    return float(np.median(losses)) if losses.size else math.nan


def _withheld(name: str) -> Any:
    """Stands for the results of a training of which only a share is here."""

    class Withheld:
        def __getattr__(self, attribute: str) -> NoReturn:
            raise UserError(
                f"--shard: a later training of this experiment needs all results of {name!r};"
                " train it with several devices or processes instead"
            )

        __getitem__ = __getattr__

    return Withheld()
