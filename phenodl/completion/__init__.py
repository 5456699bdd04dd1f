"""Study 1: what a factorization finds when it completes a matrix, and what it is held against."""

from phenodl.completion.convex import (
    MinimumNuclearNorm,
    component_nuclear_norm,
    minimum_nuclear_norm,
)
from phenodl.completion.graph import (
    CONNECTIVITIES,
    Connectivity,
    ObservationGraph,
    graph_of_entries,
    observation_graph,
)
from phenodl.completion.norms import (
    effective_rank,
    nuclear_norm,
    numerical_rank,
    singular_values,
)
from phenodl.completion.rank_bounds import MinimumRank, minimum_rank

__all__ = [
    "CONNECTIVITIES",
    "Connectivity",
    "MinimumNuclearNorm",
    "MinimumRank",
    "ObservationGraph",
    "component_nuclear_norm",
    "effective_rank",
    "graph_of_entries",
    "minimum_nuclear_norm",
    "minimum_rank",
    "nuclear_norm",
    "numerical_rank",
    "observation_graph",
    "singular_values",
]
