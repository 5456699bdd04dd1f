"""What a small start learned, held against other solutions, as numbers with intervals."""

import math
from typing import Any, NamedTuple

import numpy as np

from experiments.claims import Estimate, bootstrap, exact
from experiments.completion.data.outcome import Outcome, Solution, residual
from experiments.completion.data.task import Task
from experiments.ledger import number

_GROUPS = 1000
"""Rows of a larger matrix are resampled together."""
_FEWEST_ROWS = 8
"""Of fewer rows with test entries a bootstrap says nothing about the next one."""


class Comparison(NamedTuple):
    """A number that compares two solutions.

    Attributes:
        what: is compared.
        estimate: with its interval, which is NaN where there are too few rows for one.
        n: the rows, or groups of rows, that the interval rests on; 1 for a number without one.
    """

    what: str
    estimate: Estimate
    n: int

    def row(self) -> dict[str, Any]:
        """Of the table of comparisons."""
        low, high = self.estimate.interval
        return {
            "comparison": self.what,
            "measured": self.estimate.measured,
            "low": low,
            "high": high,
            "n": self.n,
        }

    def __str__(self) -> str:
        measured, (low, high) = self.estimate
        if math.isnan(measured) or low == high:
            return f"{self.what}: {number(measured)}"
        if math.isnan(low):
            return f"{self.what}: {number(measured)} (too few rows for an interval: {self.n})"
        return f"{self.what}: {number(measured)} [{number(low)}, {number(high)}]"


def compare(task: Task, outcome: Outcome) -> dict[str, Comparison]:
    """The comparisons that a task allows, by name."""
    small, large, convex, path = outcome.small, outcome.large, outcome.convex, outcome.path
    found = {"mean": _errors(task, small, outcome.mean)}
    if large is not None:
        found["large-start"] = _errors(task, large, small)
    if convex is not None:
        least = f"{small.name} / {convex.name}"
        found |= {
            "convex": _errors(task, small, convex),
            "convex-last-step": _exact(
                f"held-out error, {small.name}, last step / {convex.name}",
                path.test[-1],
                convex.errors[2],
            ),
            "effective-rank": _exact(
                f"effective rank, {least}", small.effective_rank, convex.effective_rank
            ),
            "convex-gap": Comparison(
                f"relative gap of the {convex.name}, at most", exact(outcome.convex_gap), 1
            ),
        }
    explained = path.train[path.spectrum_steps] ** 2 <= path.train[0] ** 2 / 2
    half = path.effective_rank[np.argmax(explained)] if explained.any() else math.nan
    what = "effective rank, half of the variance explained / last step"
    return found | {"one-by-one": _exact(what, half, path.effective_rank[-1])}


def _exact(what: str, above: float, below: float) -> Comparison:
    return Comparison(what, exact(above / below if below else math.nan), 1)


def _errors(task: Task, above: Solution, below: Solution) -> Comparison:
    """The ratio of two root mean square errors; rows of the matrix are what is resampled."""
    group = np.unique(task.test.row % _GROUPS, return_inverse=True)[1]
    squares = (residual(task, each, task.test) ** 2 for each in (above, below))
    sums = np.stack([np.bincount(group, each) for each in squares], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # an error of 0
        estimate = bootstrap(sums, lambda rows: np.sqrt(np.divide(*rows.sum(0))))
    if len(sums) < _FEWEST_ROWS:
        estimate = estimate._replace(interval=(math.nan, math.nan))
    return Comparison(f"held-out error, {above.name} / {below.name}", estimate, len(sums))
