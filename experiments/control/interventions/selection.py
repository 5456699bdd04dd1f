"""The rule by which a method's setting is chosen, and the best of several methods.

The better of two is the one that misses a goal on fewer tasks: for all methods few spikes, for
controllers few steps touched as well. Of equals it is the one whose last loss, in units of plain
Adam's, has the smaller geometric mean over seeds and tasks. On each task that ratio counts as no
less than 1/10 and no more than 10, so that no single task decides.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.control.interventions.scores import Scores, geometric_mean
from experiments.control.names import FULL_BATCH

LEFT = 0.1
"""Share of plain Adam's spikes that the goal leaves on mini-batches; on the full batch it is 0."""

MOST_TOUCHED = 0.12
"""Share of the steps that a controller may touch."""

CLIP = 10.0
"""Bound of a task's ratio of losses, and of its inverse."""

ByTask = Mapping[str, Scores]


class Rank(NamedTuple):
    """How good each setting of a method is; the smallest, in this order, is the best.

    Attributes:
        missed: number of tasks on which a goal is missed.
        loss: last loss over plain Adam's, the mean over the tasks.
    """

    missed: Int[np.ndarray, " setting"]
    loss: Float[np.ndarray, " setting"]

    @property
    def best(self) -> int:
        """Which setting is."""
        return int(np.lexsort((self.loss, self.missed))[0])


def misses(task: str, scores: Scores, adam: Scores) -> Bool[np.ndarray, " setting"]:
    """Per setting, whether more spikes are left than the goal allows."""
    allowed = 0 if task in FULL_BATCH else LEFT * adam.spikes.sum()
    return scores.spikes.sum(axis=0) > allowed


def loss_ratio(scores: Scores, adam: Scores) -> Float[np.ndarray, " setting"]:
    """Last loss over plain Adam's, the geometric mean over seeds."""
    return geometric_mean(scores.last) / geometric_mean(adam.last)


def rank(scores: ByTask, adam: ByTask) -> Rank:
    """Ranks the settings of one method.

    Args:
        scores: of the method, by task.
        adam: of plain Adam on the same tasks and seeds.
    """
    ratios = [np.clip(loss_ratio(scores[task], adam[task]), 1 / CLIP, CLIP) for task in scores]
    missed = [
        misses(task, each, adam[task]) | (each.touched.mean(axis=0) > MOST_TOUCHED)
        for task, each in scores.items()
    ]
    return Rank(np.sum(missed, axis=0), geometric_mean(np.stack(ratios)))


def best_method(scores: Mapping[str, ByTask], among: Sequence[str], adam: ByTask) -> str:
    """The best of several methods that have one setting each."""

    def place(name: str) -> tuple[int, float]:
        ranked = rank(scores[name], adam)
        return int(ranked.missed[0]), float(ranked.loss[0])

    return min(among, key=place)
