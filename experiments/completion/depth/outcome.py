"""What was learned at each depth, instance by instance, and how suddenly it was learned."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from experiments.completion.connected import Connected
from experiments.completion.depth.flow import RECORD_EVERY
from experiments.completion.gradient_flow import CONVERGED
from phenodl import completion


class Outcome(NamedTuple):
    """The solutions of one depth and one start, measured.

    Attributes:
        converged: whether the loss fell to ``CONVERGED``.
        rank: numerical rank of the solution.
        within_truth: whether that is at most the rank of the ground truth.
        minimal: whether it is the minimum rank of all fits.
        effective_rank: exponential of the entropy of the singular values.
        nuclear_excess: nuclear norm over the least of all fits, minus 1.
    """

    converged: Bool[np.ndarray, " instances"]
    rank: Int[np.ndarray, " instances"]
    within_truth: Bool[np.ndarray, " instances"]
    minimal: Bool[np.ndarray, " instances"]
    effective_rank: Float[np.ndarray, " instances"]
    nuclear_excess: Float[np.ndarray, " instances"]


class Paths(NamedTuple):
    """Singular values along the flow; NaN beyond a run's end.

    Attributes:
        time: of the flow.
        values: largest first.
    """

    time: Float[np.ndarray, "instances times"]
    values: Float[np.ndarray, "instances times side"]


def measure(instances: Connected, trained: xr.Dataset) -> Outcome:
    """Holds the solutions of one training, one run per instance, against the minima."""
    rank, effective_rank, norm = map(np.asarray, _ranks(jnp.asarray(trained.W.values)))
    return Outcome(
        converged=trained.mean_loss.values <= CONVERGED,
        rank=rank,
        within_truth=rank <= instances.rank,
        minimal=rank == instances.minimum_rank,
        effective_rank=effective_rank,
        nuclear_excess=norm / instances.least_norm - 1,
    )


@jax.jit
def _ranks(
    learned: Float[Array, "instances rows columns"],
) -> tuple[Int[Array, " instances"], Float[Array, " instances"], Float[Array, " instances"]]:
    return (
        completion.numerical_rank(learned),
        completion.effective_rank(learned),
        completion.nuclear_norm(learned),
    )


def paths(trained: xr.Dataset) -> Paths:
    """The singular values along the paths of one training, one run per instance."""
    matrices = trained.path.values
    known = np.isfinite(matrices).all((-2, -1))
    values = np.full(matrices.shape[:-1], np.nan)
    values[known] = np.linalg.svd(matrices[known], compute_uv=False)
    time = trained.time.transpose("instance", f"step_{RECORD_EVERY}").values
    return Paths(np.where(known, time, np.nan), values)


def rise_share(along: Paths) -> Float[np.ndarray, " instances"]:
    """How suddenly the largest singular value rises: (t90 - t10) / t90.

    t10 and t90 are the times at which it first passes 10 and 90 % of its last value, interpolated
    between records. For the logistic growth of depth 2 the share falls as 1 / log(1 / std) only;
    deeper products escape in a time of order std^-(L-2), of which the rise takes ever less.
    """
    largest = along.values[..., 0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        places = np.where(np.isfinite(largest), np.arange(largest.shape[1]), -1).max(1)
    end = largest[np.arange(len(largest)), places]
    first, last = (_first_passage(along.time, largest, level * end) for level in (0.1, 0.9))
    return (last - first) / last


def _first_passage(
    time: Float[np.ndarray, "instances times"],
    values: Float[np.ndarray, "instances times"],
    level: Float[np.ndarray, " instances"],
) -> Float[np.ndarray, " instances"]:
    """When the values first reach the level, linearly between two records."""
    rows = np.arange(len(values))
    after = np.maximum(np.argmax(values >= level[:, None], axis=1), 1)
    low, high = values[rows, after - 1], values[rows, after]
    part = np.clip((level - low) / (high - low), 0, 1)
    return time[rows, after - 1] + part * (time[rows, after] - time[rows, after - 1])
