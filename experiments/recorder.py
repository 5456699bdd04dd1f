"""Drives training for an experiment: result parts, checkpoints, progress, resumption.

A training is identified by its name in the run directory. What is complete there is not trained
again; what was interrupted goes on from its last checkpoint.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console

from experiments import files, parts
from experiments.progress import TrainingProgress
from experiments.run_directory import RunDirectory
from phenodl import results
from phenodl.checkpoint import CheckpointError, Checkpoints
from phenodl.protocol import Method, Problem
from phenodl.sweep import Runs
from phenodl.training import RUNNING, Chunk, TrainState, abstract_state, train

SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Recorder:
    """Trains into a run directory.

    Args:
        run: where.
        console: for the progress; None is silent.

    Attributes:
        trainings: the names of those that have ended, in their order.
    """

    def __init__(self, run: RunDirectory, console: Console | None = None):
        self._run = run
        self._console = console
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
            The results, over the axes of the sweep.
        """
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*", name):
            raise ValueError(f"name must be lower-case words joined by hyphens, got {name!r}")
        leading = self._leading(name) if self._run.exists else []
        if not parts.complete(leading):
            self._begin()
            shapes = {key: training[key] for key in ("probes", "layout") if key in training}
            like = abstract_state(problem, method, runs, **shapes)
            start = self._restore(name, [int(part.attrs["last_step"]) for part in leading], like)
            leading = self._leading(name) if leading else []  # without what lies beyond the state
            with Checkpoints(self._checkpoints(name)) as checkpoints:
                chunks = train(problem, method, runs, start=start, **training)
                leading += self._follow(name, chunks, checkpoints)
        self.trainings.append(name)
        return results.merge(leading)

    def _leading(self, name: str) -> list[xr.Dataset]:
        return parts.leading(self._run.path, self._run.stored, name)

    def _checkpoints(self, name: str) -> Path:
        return self._run.path / "checkpoints" / name

    def _begin(self) -> None:
        """Creates the run directory before the first training of this session."""
        if not self._begun:
            self._run.create()
            self._begun = True

    def _restore(self, name: str, borders: Sequence[int], like: TrainState) -> TrainState | None:
        """The newest state to go on from, or None to start anew; removes what lies beyond it.

        Args:
            name: of the training.
            borders: the steps at which the leading parts end. The results up to a checkpoint must
                be there for training to go on from it.
            like: shapes and dtypes of the state.
        """
        folder = self._checkpoints(name)
        reached, start = 0, None
        with Checkpoints(folder) as checkpoints:
            stored = checkpoints.steps()
            for step in sorted(set(stored).intersection(borders), reverse=True):
                try:
                    reached, start = step, checkpoints.restore(step, like)
                    break
                except CheckpointError as error:
                    self.say(f"left out: {error}")
        if borders or stored:
            self.say(f"{name} goes on from step {reached} of its results")
        for step in stored:
            if step > reached:
                shutil.rmtree(folder / str(step))
        for path in results.part_paths(self._run.path, name):
            if parts.first_step(path) >= reached:
                path.unlink()
        for path in self._run.path.glob(f".part-{name}-*.tmp"):
            path.unlink()
        return start

    def say(self, text: str) -> None:
        """Tells the user something, where the progress is shown."""
        if self._console is not None:
            self._console.print(text, soft_wrap=True)

    def _follow(
        self, name: str, chunks: Iterator[Chunk], checkpoints: Checkpoints
    ) -> list[xr.Dataset]:
        """Writes, shows and now and then checkpoints what training hands over; gives the parts."""
        saved, written = time.monotonic(), None
        origin = parts.origin(self._run.stored, name)
        written_parts = []
        with TrainingProgress(f"{self._run.experiment.name} · {name}", self._console) as progress:
            try:
                for chunk in chunks:
                    last = chunk.last_step == chunk.total_steps or RUNNING not in chunk.status
                    path = self._run.path / f"part-{name}-{chunk.first_step:09d}.nc"
                    with files.reported(path, "written"):
                        part = results.from_chunk(chunk)
                        parts.write(path, part, origin, last)
                    written_parts.append(part)
                    written = chunk
                    speed = (chunk.last_step - chunk.first_step) / chunk.seconds
                    steps = (chunk.last_step, chunk.total_steps)
                    progress.update(*steps, speed, _median_loss(chunk), last)
                    if last or time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                        checkpoints.save(chunk.last_step, chunk.state())
                        saved = time.monotonic()
            except KeyboardInterrupt:
                # The chunk at hand may have no part yet: a checkpoint beyond it would leave a hole.
                if written is not None:
                    checkpoints.save(written.last_step, written.state())
                raise
        return written_parts


def _median_loss(chunk: Chunk) -> float:
    running = chunk.loss[chunk.status == RUNNING]
    return float(np.median(running if running.size else chunk.loss))
