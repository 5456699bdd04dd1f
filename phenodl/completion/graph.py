"""The observation graph of a partially observed matrix: rows against columns, an edge per entry.

Connectivity decides which implicit regularization a factorization shows (MF, arXiv 2405.13721).
Rows and columns without any observed entry are isolated vertices and are ignored throughout.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Connectivity = Literal["connected", "complete bipartite", "other"]
CONNECTIVITIES: tuple[Connectivity, ...] = ("connected", "complete bipartite", "other")
"""The classes in the order in which they are tried: a graph belongs to the first that fits."""


class ObservationGraph(NamedTuple):
    """The components of an observation graph.

    Attributes:
        row_component: number of each row's component, 0, 1, ...; -1 for an isolated row.
        column_component: the same for each column.
        count: number of components, isolated vertices apart.
        complete: per component, whether all its rows are observed in all its columns.
    """

    row_component: Int[np.ndarray, " rows"]
    column_component: Int[np.ndarray, " columns"]
    count: int
    complete: Bool[np.ndarray, " components"]

    @property
    def connectivity(self) -> Connectivity:
        """``"connected"``: one component; ``"complete bipartite"``: several, each complete."""
        if self.count == 1:
            return "connected"
        return "complete bipartite" if self.complete.all() else "other"

    @property
    def blocks(self) -> Bool[np.ndarray, "rows columns"]:
        """The entries whose row and column lie in the same component, observed or not.

        Up to the order of rows and columns this is block diagonal, one block per component.
        """
        rows, columns = self.row_component[:, None], self.column_component[None]
        return (rows == columns) & (rows >= 0)


def observation_graph(mask: ArrayLike) -> ObservationGraph:
    """The graph of a dense mask.

    Args:
        mask: boolean (rows, columns), true where an entry is observed.

    Raises:
        ValueError: ``mask`` is not a matrix, or nothing is observed.

    Example:
        >>> graph = observation_graph([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
        >>> graph.count, graph.connectivity, graph.row_component.tolist()
        (2, 'complete bipartite', [0, 1, -1])
    """
    observed = np.asarray(mask, bool)
    if observed.ndim != 2:
        raise ValueError(f"mask must be a matrix, got shape {observed.shape}")
    rows, columns = np.nonzero(observed)
    return graph_of_entries(rows, columns, observed.shape)


def graph_of_entries(
    rows: Int[ArrayLike, " entries"],
    columns: Int[ArrayLike, " entries"],
    shape: tuple[int, int],
) -> ObservationGraph:
    """The graph of a list of observed entries, each given once; time and memory grow linearly.

    Args:
        rows: row of each observed entry.
        columns: its column.
        shape: of the matrix.

    Raises:
        ValueError: no entry is given, or one lies outside the matrix.

    Example:
        >>> graph_of_entries([0, 0, 1], [0, 1, 1], (2, 2)).connectivity
        'connected'
    """
    rows, columns = np.asarray(rows), np.asarray(columns)
    if len(rows) == 0:
        raise ValueError("mask must have at least one observed entry")
    for name, index, size in (("rows", rows, shape[0]), ("columns", columns, shape[1])):
        if index.min() < 0 or index.max() >= size:
            raise ValueError(f"{name} must be in [0, {size}), got {index.min()} to {index.max()}")

    vertices = sum(shape)
    edges = coo_array((np.ones(len(rows), bool), (rows, shape[0] + columns)), (vertices, vertices))
    _, label = connected_components(edges, directed=False)
    used, edge_component = np.unique(label[rows], return_inverse=True)
    number = np.full(vertices, -1)  # of each label; an isolated vertex is a label without edges
    number[used] = np.arange(len(used))
    row_component, column_component = np.split(number[label], [shape[0]])
    height, width = (
        np.bincount(part[part >= 0], minlength=len(used))
        for part in (row_component, column_component)
    )
    complete = np.bincount(edge_component) == height * width
    return ObservationGraph(row_component, column_component, len(used), complete)
