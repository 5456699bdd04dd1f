"""What was learned, measured, beside the mean, a large start and the convex solution."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from experiments.completion.data.config import Config
from experiments.completion.data.task import Part, Task
from experiments.errors import UserError
from phenodl import completion
from phenodl.completion import norms

_GAP = 1e-4
"""Relative gap of the certified minimum nuclear norm: far finer than the comparison needs."""


class Solution(NamedTuple):
    """A completed matrix, in the units of the data, less their mean where that was subtracted.

    Attributes:
        name: how it was found.
        W: the matrix.
        errors: root mean square on the entries that train, stop, test.
        rank: numerical.
        effective_rank: exponential of the entropy of the singular values.
        singular_values: largest first.
    """

    name: str
    W: Float[np.ndarray, "rows columns"]
    errors: tuple[float, ...]
    rank: int
    effective_rank: float
    singular_values: Float[np.ndarray, " side"]

    def row(self) -> dict[str, Any]:
        """Of the table of solutions."""
        train, stop, test = self.errors
        return {
            "solution": self.name,
            "held-out error": test,
            "error where training stops": stop,
            "training error": train,
            "rank": self.rank,
            "effective rank": self.effective_rank,
            "nuclear norm": float(self.singular_values.sum()),
        }


class Path(NamedTuple):
    """The way of the small start; errors in the units of the data.

    Attributes:
        time: of gradient flow at each step, in units of the time in which the first direction
            grows by a factor e.
        train: root mean square error.
        stop: on the entries that stop the training.
        test: on those that test.
        best_step: where the error on the first of them is least.
        spectrum_steps: at which the singular values were measured.
        singular_values: of W.
        effective_rank: of W.
    """

    time: Float[np.ndarray, " steps"]
    train: Float[np.ndarray, " steps"]
    stop: Float[np.ndarray, " steps"]
    test: Float[np.ndarray, " steps"]
    best_step: int
    spectrum_steps: Int[np.ndarray, " measured"]
    singular_values: Float[np.ndarray, "measured side"]
    effective_rank: Float[np.ndarray, " measured"]


class Outcome(NamedTuple):
    """The solutions; ``large`` and ``convex`` are None where the matrix is too large for them.

    Attributes:
        path: the way of the small start.
        mean: the mean of the training entries everywhere, or 0.
        small: from a small start, where its error on the entries that stop is least.
        large: from a large start, likewise.
        convex: of the least nuclear norm.
        convex_gap: the certified relative distance of its nuclear norm from the least, at most.
    """

    path: Path
    mean: Solution
    small: Solution
    large: Solution | None
    convex: Solution | None
    convex_gap: float

    @property
    def solutions(self) -> list[Solution]:
        """Those that there are."""
        return [each for each in self[1:] if isinstance(each, Solution)]

    def rows(self) -> list[dict[str, Any]]:
        """The table of solutions, with the small start as its training ends."""
        return [*(each.row() for each in self.solutions), self._last_row()]

    def _last_row(self) -> dict[str, Any]:
        path, values = self.path, self.path.singular_values[-1]
        return {
            "solution": "small start, last step",
            "held-out error": path.test[-1],
            "error where training stops": path.stop[-1],
            "training error": path.train[-1],
            "rank": int((values > norms.NUMERICAL_RANK_RTOL * values[0]).sum()),
            "effective rank": path.effective_rank[-1],
            "nuclear norm": values.sum(),
        }


def measure(task: Task, config: Config, trained: xr.Dataset) -> Outcome:
    """The solutions of a task.

    Raises:
        UserError: the data have changed since the training.
    """
    _require_same(task, config, trained)
    small, *others = (trained.W.values[run] for run in range(trained.sizes["init_std"]))
    large = _solution("large start", task, others[0]) if others else None
    convex, gap = _convex(task) if task.compares(config) else (None, math.nan)
    return Outcome(
        _path(task, trained.isel(init_std=0)),
        _solution("mean" if config.center else "zero", task, np.zeros(task.shape)),
        _solution("small start", task, small),
        large,
        convex,
        gap,
    )


def residual(task: Task, solution: Solution, part: Part) -> Float[np.ndarray, " entries"]:
    """The errors of a solution on some entries, standardised."""
    return solution.W[part.row, part.column] / task.scale - part.value


def _solution(name: str, task: Task, standardised: Float[np.ndarray, "rows columns"]) -> Solution:
    W = jnp.asarray(task.scale * standardised)
    found = Solution(
        name,
        np.asarray(W),
        (),
        int(completion.numerical_rank(W)),
        float(completion.effective_rank(W)),
        np.asarray(completion.singular_values(W)),
    )
    errors = (residual(task, found, part) for part in (task.train, task.stop, task.test))
    size = tuple(task.scale * float(np.sqrt(np.mean(each**2))) for each in errors)
    return found._replace(errors=size)


def _convex(task: Task) -> tuple[Solution, float]:
    """The matrix of the least nuclear norm that fits the training entries, and its gap."""
    bounds = completion.minimum_nuclear_norm(task.target[None], task.mask[None], gap=_GAP)
    solution = _solution("least nuclear norm", task, np.asarray(bounds.solution[0]))
    return solution, float(bounds.gap[0])


def _path(task: Task, trained: xr.Dataset) -> Path:
    steps = int(np.isfinite(trained.time.values).sum())
    step = next(str(name) for name in trained.singular_values.dims if str(name).startswith("step"))
    measured = trained[step].values < steps
    errors = (task.scale * trained[f"{name}_error"].values for name in ("train", "stop", "test"))
    train, stop, test = (values[:steps] for values in errors)
    return Path(
        trained.time.values[:steps] * task.growth_rate,
        train,
        stop,
        test,
        int(trained.best_step),
        trained[step].values[measured],
        task.scale * trained.singular_values.values[measured],
        trained.effective_rank.values[measured],
    )


def _require_same(task: Task, config: Config, trained: xr.Dataset) -> None:
    recorded = trained.digest.values.reshape(-1, len(task.digest))
    recorded = recorded[~np.isnan(recorded).any(axis=1)]
    name = config.file or task.name
    if not (recorded == recorded[0]).all():
        raise UserError(f"{name} was changed while it was trained on; train in a new directory")
    if not (recorded == np.frombuffer(task.digest, np.uint8)).all():
        raise UserError(f"{name} has changed since it was trained on")
