"""What was learned, measured and set beside the true minima of each instance."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.completion.connectivity.config import Config
from phenodl import completion
from phenodl.data.matrices import Instances, connectivity_family
from phenodl.results import final

CONVERGED = 1e-12
"""Loss per observed entry up to which a solution is trusted: its entries are right to 1e-6."""

MINIMAL = 1e-6
"""Relative excess over the minimum nuclear norm up to which a solution counts as minimal."""


class Outcome(NamedTuple):
    """The solution of each instance, measured.

    Attributes:
        connectivity: class of the observation graph.
        disconnected: whether the graph has several components.
        converged: whether the loss fell to ``CONVERGED``.
        rank: numerical rank of the solution.
        minimum_rank: of all fits; 0 where its certificate is open.
        nuclear_excess: nuclear norm of the solution over the least of all fits, minus 1.
        norm_decided: whether the bounds on the least norm tell if the solution has it.
        component_excess: nuclear norm over the sum of those of the components, minus 1.
    """

    connectivity: np.ndarray
    disconnected: Bool[np.ndarray, " instances"]
    converged: Bool[np.ndarray, " instances"]
    rank: Int[np.ndarray, " instances"]
    minimum_rank: Int[np.ndarray, " instances"]
    nuclear_excess: Float[np.ndarray, " instances"]
    norm_decided: Bool[np.ndarray, " instances"]
    component_excess: Float[np.ndarray, " instances"]

    @property
    def minimal_rank(self) -> Bool[np.ndarray, " instances"]:
        """Whether the solution has the minimum rank."""
        return self.rank == self.minimum_rank

    @property
    def minimal_norm(self) -> Bool[np.ndarray, " instances"]:
        """Whether the solution has the minimum nuclear norm."""
        return self.nuclear_excess <= MINIMAL

    def of_class(self, connectivity: str) -> Bool[np.ndarray, " instances"]:
        """Converged runs of a class whose minimum rank is known: those the claims rest on."""
        known = self.converged & (self.minimum_rank > 0)
        return (self.connectivity == connectivity) & known


def instances(config: Config) -> Instances:
    """The instances of a configuration."""
    return connectivity_family(
        config.seed, masks_per_size=config.masks_per_size, sparse_masks=config.sparse_masks
    )


def bipartite(family: Instances) -> Bool[np.ndarray, " instances"]:
    """Which instances have several components, each complete bipartite."""
    graphs = map(completion.observation_graph, family.mask)
    return np.array([graph.connectivity == "complete bipartite" for graph in graphs])


def measure(family: Instances, trained: xr.Dataset) -> Outcome:
    """Holds the solutions of one training, one run per instance, against the minima."""
    graphs = [completion.observation_graph(mask) for mask in family.mask]
    blocks = np.stack([graph.blocks for graph in graphs])
    complete = np.array([graph.complete.all() for graph in graphs])
    closed_form = completion.component_nuclear_norm(family.target, blocks)
    least = completion.minimum_nuclear_norm(family.target, family.mask)
    lower, upper = (np.where(complete, closed_form, bound) for bound in least)
    bounds = completion.minimum_rank(family.target, family.mask, family.rank)

    learned = jnp.asarray(final(trained.W).values)
    norm = np.asarray(completion.nuclear_norm(learned))
    return Outcome(
        connectivity=np.array([graph.connectivity for graph in graphs]),
        disconnected=np.array([graph.count > 1 for graph in graphs]),
        converged=final(trained.mean_loss).values <= CONVERGED,
        rank=np.asarray(completion.numerical_rank(learned)),
        minimum_rank=np.where(bounds.closed, bounds.upper, 0),
        nuclear_excess=norm / upper - 1,
        norm_decided=(norm / upper - 1 > MINIMAL) | (norm / lower - 1 <= MINIMAL),
        component_excess=norm / completion.component_nuclear_norm(learned, blocks) - 1,
    )


def excess_by_std(family: Instances, trained: xr.Dataset) -> Float[np.ndarray, "instances stds"]:
    """The nuclear excess of complete bipartite instances, started from several deviations.

    Only instances that converge from all of them are kept.
    """
    chosen = bipartite(family)
    target, mask = family.target[chosen], family.mask[chosen]
    minimum = completion.component_nuclear_norm(target, mask)  # complete: the blocks are the mask
    norm = np.asarray(completion.nuclear_norm(jnp.asarray(final(trained.W).values)))
    excess = norm / minimum[:, None] - 1
    loss = final(trained.mean_loss).values
    return excess[(loss <= CONVERGED).all(axis=1)]
