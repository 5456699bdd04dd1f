"""What the observed entries let expect, before anything is trained."""

from typing import Any

import numpy as np

from experiments.completion.data.config import Config
from experiments.completion.data.task import Task
from phenodl.completion import Connectivity, ObservationGraph, graph_of_entries

EXPECTED: dict[Connectivity, str] = {
    "connected": "low rank",
    "complete bipartite": "low nuclear norm",
    "other": "neither low rank nor low nuclear norm",
}
"""The bias by class of the observation graph (MF, arXiv 2405.13721)."""


def graph(task: Task) -> ObservationGraph:
    """Of the training entries."""
    return graph_of_entries(task.train.row, task.train.column, task.shape)


def summary(task: Task, config: Config) -> list[str]:
    """What the user should know before the training, in a few lines."""
    found = graph(task)
    rows, columns = task.shape
    components = "one component" if found.count == 1 else f"{found.count} components"
    empty = int((found.row_component < 0).sum()), int((found.column_component < 0).sum())
    lines = [
        f"{task.name}: {rows} x {columns}, {len(task.train.value)} entries to train on",
        f"{components}, {found.connectivity}: expect {EXPECTED[found.connectivity]}",
    ]
    if task.reading:
        lines.insert(0, f"{task.name}: {task.reading}")
    if any(empty):
        lines.append(
            f"{empty[0]} rows and {empty[1]} columns have no entry to train on and are predicted"
            f" as {task.offset:g}"
        )
    if not task.compares(config):
        lines.append(
            f"{rows * columns} entries are too many for the convex solution and a large start"
            f" (--comparison-limit {config.comparison_limit}); going on without them"
        )
    return lines


def table(task: Task) -> list[dict[str, Any]]:
    """The numbers of entries, the components of the training entries, and the bias to expect."""
    found = graph(task)
    rows, columns = found.row_component[task.test.row], found.column_component[task.test.column]
    empty = (rows < 0) | (columns < 0)
    sizes = np.bincount(found.row_component[task.train.row], minlength=found.count)
    facts = {
        "data": task.name,
        "rows": task.shape[0],
        "columns": task.shape[1],
        "training entries": len(task.train.value),
        "entries that stop the training": len(task.stop.value),
        "entries that test": len(task.test.value),
        "rows without training entries": int((found.row_component < 0).sum()),
        "columns without training entries": int((found.column_component < 0).sum()),
        "test entries in such rows or columns": int(empty.sum()),
        "test entries between components": int((~empty & (rows != columns)).sum()),
        "components": found.count,
        "share of training entries in the largest": float(sizes.max() / sizes.sum()),
        "connectivity": found.connectivity,
        "bias to expect": EXPECTED[found.connectivity],
        "prediction without training entries": task.offset,
    }
    return [{"what": what, "value": value} for what, value in facts.items()]
