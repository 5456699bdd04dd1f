"""Drives training for an experiment: result parts, checkpoints, progress, resumption.

A training is identified by its name in the run directory. What is complete there is not trained
again; what was interrupted goes on from its last checkpoint.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console

from experiments.progress import TrainingProgress
from experiments.run_directory import RunDirectory
from phenodl import results
from phenodl.checkpoint import Checkpoints
from phenodl.protocol import Method, Problem
from phenodl.sweep import Runs
from phenodl.training import RUNNING, Chunk, abstract_state, train

SECONDS_BETWEEN_CHECKPOINTS = 30.0

_COMPLETE = "training_complete"


class Recorder:
    """Trains into a run directory.

    Args:
        run: where.
        console: for the progress; None is silent.
    """

    def __init__(self, run: RunDirectory, console: Console | None = None):
        self._run = run
        self._console = console
        self._origin: dict[str, str] = {}

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
        parts = self._parts(name)
        if not (parts and parts[-1].attrs.get(_COMPLETE)):
            self._begin()
            self._advance(name, problem, method, runs, training)
            parts = self._parts(name)
        return results.merge(parts)

    def _parts(self, name: str) -> list[xr.Dataset]:
        return [results.read_part(path) for path in results.part_paths(self._run.path, name)]

    def _begin(self) -> None:
        """Creates the run directory before the first training of this session."""
        if not self._origin:
            self._run.create()
            stored = self._run.stored
            self._origin = {key: json.dumps(stored[key]) for key in ("config", "provenance")}
            self._origin["experiment"] = self._run.experiment.name

    def _advance(
        self, name: str, problem: Problem, method: Method, runs: Runs, training: dict[str, Any]
    ) -> None:
        """Trains to the end, from the last checkpoint if there is one."""
        with Checkpoints(self._run.path / "checkpoints" / name) as checkpoints:
            reached = checkpoints.latest()
            for path in results.part_paths(self._run.path, name):
                if reached is None or _first_step(path) >= reached:
                    path.unlink()
            if reached is not None:
                shapes = {key: training[key] for key in ("probes", "layout") if key in training}
                like = abstract_state(problem, method, runs, **shapes)
                training = training | {"start": checkpoints.restore(reached, like)}
            self._follow(name, train(problem, method, runs, **training), checkpoints)

    def _follow(self, name: str, chunks: Iterator[Chunk], checkpoints: Checkpoints) -> None:
        """Writes, shows and now and then checkpoints what training hands over."""
        saved, chunk = time.monotonic(), None
        with TrainingProgress(f"{self._run.experiment.name} · {name}", self._console) as progress:
            try:
                for chunk in chunks:
                    last = chunk.last_step == chunk.total_steps or RUNNING not in chunk.status
                    self._write(name, chunk, last)
                    speed = (chunk.last_step - chunk.first_step) / chunk.seconds
                    steps = (chunk.last_step, chunk.total_steps)
                    progress.update(*steps, speed, _median_loss(chunk), last)
                    if last or time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                        checkpoints.save(chunk.last_step, chunk.state())
                        saved = time.monotonic()
            except KeyboardInterrupt:
                if chunk is not None:
                    checkpoints.save(chunk.last_step, chunk.state())
                raise

    def _write(self, name: str, chunk: Chunk, last: bool) -> None:
        part = results.from_chunk(chunk)
        part.attrs |= {_COMPLETE: int(last), **self._origin}
        results.write_part(self._run.path / f"part-{name}-{chunk.first_step:09d}.nc", part)


def _first_step(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _median_loss(chunk: Chunk) -> float:
    running = chunk.loss[chunk.status == RUNNING]
    return float(np.median(running if running.size else chunk.loss))
