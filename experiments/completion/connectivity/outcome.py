"""What was learned, measured and set beside the true minima of each instance."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.completion.connectivity.config import Config
from experiments.completion.gradient_flow import CONVERGED
from phenodl import completion
from phenodl.completion import Connectivity, ObservationGraph
from phenodl.completion.greedy import GreedyPath
from phenodl.completion.low_rank_fit import best_fit
from phenodl.data.matrices import Instances, connectivity_family

MINIMAL = 1e-6
"""Relative excess over the minimum nuclear norm up to which a solution counts as minimal."""

MET, NOT_MET, UNDECIDED = "met", "not met", "undecided"
"""What is known of the theorem's condition on the dynamics for an instance."""

_BEST = 1e-3
"""Relative excess over the loss of the best fit up to which a stage counts as having reached it."""


class Reference(NamedTuple):
    """What is known of the instances without any training.

    Attributes:
        connectivity: class of the observation graph.
        disconnected: whether the graph has several components.
        blocks: the entries inside the components.
        minimum_rank: of all fits; 0 where its certificate is open.
        least_norm: certified lower and upper bound of the nuclear norm of all fits.
    """

    connectivity: np.ndarray
    disconnected: Bool[np.ndarray, " instances"]
    blocks: Bool[np.ndarray, "instances rows columns"]
    minimum_rank: Int[np.ndarray, " instances"]
    least_norm: Float[np.ndarray, "2 instances"]

    def of_class(self, connectivity: Connectivity) -> Bool[np.ndarray, " instances"]:
        """Instances of a class whose minimum rank is known: those the claims rest on."""
        return (self.connectivity == connectivity) & (self.minimum_rank > 0)


class Outcome(NamedTuple):
    """The solutions found from each standard deviation, measured.

    Attributes:
        converged: whether the loss fell to ``CONVERGED``.
        rank: numerical rank of the solution.
        largest: its largest singular value.
        nuclear_excess: its nuclear norm over the least of all fits, minus 1.
        norm_decided: whether the bounds on the least norm tell if the solution has it.
        component_excess: its nuclear norm over the sum of those of the components, minus 1.
        component_rank: the sum of the numerical ranks of the components, small singular values
            being held against the largest of all.
    """

    converged: Bool[np.ndarray, "instances stds"]
    rank: Int[np.ndarray, "instances stds"]
    largest: Float[np.ndarray, "instances stds"]
    nuclear_excess: Float[np.ndarray, "instances stds"]
    norm_decided: Bool[np.ndarray, "instances stds"]
    component_excess: Float[np.ndarray, "instances stds"]
    component_rank: Int[np.ndarray, "instances stds"]

    @property
    def minimal_norm(self) -> Bool[np.ndarray, "instances stds"]:
        """Whether the solution has the minimum nuclear norm."""
        return self.nuclear_excess <= MINIMAL


@functools.cache
def instances(config: Config) -> Instances:
    """The instances of a configuration."""
    return connectivity_family(
        config.seed, masks_per_size=config.masks_per_size, sparse_masks=config.sparse_masks
    )


def graphs(family: Instances) -> list[ObservationGraph]:
    """The observation graph of each instance."""
    return [completion.observation_graph(mask) for mask in family.mask]


def reference(family: Instances) -> Reference:
    """Graphs and minima of the instances."""
    found = graphs(family)
    blocks = np.stack([graph.blocks for graph in found])
    complete = np.array([graph.complete.all() for graph in found])
    closed_form = completion.component_nuclear_norm(family.target, blocks)
    bounds = completion.minimum_nuclear_norm(family.target, family.mask)
    rank = completion.minimum_rank(family.target, family.mask, family.rank)
    return Reference(
        connectivity=np.array([graph.connectivity for graph in found]),
        disconnected=np.array([graph.count > 1 for graph in found]),
        blocks=blocks,
        minimum_rank=np.where(rank.closed, rank.upper, 0),
        least_norm=np.where(complete, closed_form, np.stack([bounds.lower, bounds.upper])),
    )


def measure(known: Reference, trained: xr.Dataset) -> Outcome:
    """Holds the solutions of a training over instances and ``init_std`` against the minima."""
    learned = trained.W.values
    lower, upper = known.least_norm[..., None]
    norm = np.asarray(completion.nuclear_norm(jnp.asarray(learned)))
    blocks = known.blocks[:, None]
    added = completion.component_nuclear_norm(learned, blocks)
    # Up to order the components are the blocks of a block diagonal matrix.
    apart = jnp.asarray(np.where(blocks, learned, 0.0))
    return Outcome(
        converged=trained.mean_loss.values <= CONVERGED,
        rank=np.asarray(completion.numerical_rank(jnp.asarray(learned))),
        largest=np.asarray(completion.singular_values(jnp.asarray(learned)))[..., 0],
        nuclear_excess=norm / upper - 1,
        norm_decided=(norm / upper - 1 > MINIMAL) | (norm / lower - 1 <= MINIMAL),
        component_excess=norm / added - 1,
        component_rank=np.asarray(completion.numerical_rank(apart)),
    )


class ConnectedOutcome(NamedTuple):
    """Connected instances whose minimum rank is known.

    Attributes:
        converged, largest: as in :class:`Outcome`.
        minimal_rank: whether the solution has the minimum rank.
        condition: of each instance, see :func:`dynamics_condition`.
    """

    converged: Bool[np.ndarray, "instances stds"]
    minimal_rank: Bool[np.ndarray, "instances stds"]
    largest: Float[np.ndarray, "instances stds"]
    condition: np.ndarray


def connected_outcome(
    family: Instances, known: Reference, outcome: Outcome, path: GreedyPath
) -> ConnectedOutcome:
    """The part of an outcome that the theorem on connected data speaks of.

    Args:
        family: all instances.
        known: of them.
        outcome: of them.
        path: of greedy learning, for the connected ones.
    """
    chosen = known.of_class("connected")
    certified = chosen[known.connectivity == "connected"]
    condition = dynamics_condition(
        Instances(*(part[chosen] for part in family)),
        known.minimum_rank[chosen],
        path.mean_loss[certified],
        path.stationary[certified],
    )
    minimal = outcome.rank == known.minimum_rank[:, None]
    return ConnectedOutcome(
        outcome.converged[chosen], minimal[chosen], outcome.largest[chosen], condition
    )


def dynamics_condition(
    family: Instances,
    minimum_rank: Int[np.ndarray, " instances"],
    greedy_loss: Float[np.ndarray, "instances stages"],
    stationary: Bool[np.ndarray, "instances stages"],
) -> np.ndarray:
    """Whether the flow on each Ω_k, up to the minimum rank, ends at the best fit of rank k.

    That is what the theorem on connected data asks of the dynamics. The flow on Ω_k is the one
    that leaves the end of the flow on Ω_{k-1} by its most unstable direction.

    Args:
        family: the instances.
        minimum_rank: of each.
        greedy_loss: per entry, at the end of the flow on each Ω_k.
        stationary: whether that flow came to rest within its steps.

    Returns:
        ``MET`` or ``NOT_MET``; ``UNDECIDED`` where the first flow that has not reached the best fit
        still moves, or where the best fit is not attained.
    """
    entries = family.mask.sum((1, 2))
    condition = np.full(len(minimum_rank), MET, dtype="U9")
    for stage, (mean_loss, at_rest) in enumerate(
        zip(greedy_loss.T, stationary.T, strict=True), start=1
    ):
        reached, attained = mean_loss <= CONVERGED, np.ones_like(at_rest)
        below = np.flatnonzero(minimum_rank > stage)
        if below.size:
            best = best_fit(family.target[below], family.mask[below], stage)
            reached[below] = mean_loss[below] <= (1 + _BEST) * best.loss / entries[below]
            attained[below] = best.attained
        missed = (condition == MET) & (minimum_rank >= stage) & ~(reached & attained)
        condition[missed] = np.where(at_rest & attained, NOT_MET, UNDECIDED)[missed]
    return condition
