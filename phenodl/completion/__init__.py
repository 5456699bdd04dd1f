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
from phenodl.completion.greedy import GreedyPath, greedy_low_rank
from phenodl.completion.low_rank_fit import BestFit, best_fit
from phenodl.completion.manifolds import (
    component_distances,
    component_members,
    distances,
    place,
    rotate,
)
from phenodl.completion.norms import (
    effective_number,
    effective_rank,
    nuclear_norm,
    numerical_rank,
    singular_values,
)
from phenodl.completion.plateaus import Plateaus, find_plateaus, history, spectra
from phenodl.completion.rank_bounds import MinimumRank, minimum_rank
from phenodl.models.factorization import imbalance

__all__ = [
    "CONNECTIVITIES",
    "BestFit",
    "Connectivity",
    "GreedyPath",
    "MinimumNuclearNorm",
    "MinimumRank",
    "ObservationGraph",
    "Plateaus",
    "best_fit",
    "component_distances",
    "component_members",
    "component_nuclear_norm",
    "distances",
    "effective_number",
    "effective_rank",
    "find_plateaus",
    "graph_of_entries",
    "greedy_low_rank",
    "history",
    "imbalance",
    "minimum_nuclear_norm",
    "minimum_rank",
    "nuclear_norm",
    "numerical_rank",
    "observation_graph",
    "place",
    "rotate",
    "singular_values",
    "spectra",
]
