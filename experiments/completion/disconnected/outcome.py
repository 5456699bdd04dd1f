"""Where on its line each solution lies, and how the components went through their manifolds."""

from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy import stats

from experiments.completion.disconnected.instances import Disconnected
from experiments.completion.gradient_flow import CONVERGED
from phenodl.completion import observation_graph
from phenodl.completion.greedy import GreedyPath
from phenodl.completion.manifolds import component_distances, component_members, distances
from phenodl.models.factorization import Factors

RANK_RTOL = 1e-6
"""Singular values above this share of the largest count. The usual 1e-4 would take one in some
thousand solutions of rank 2, with c close to ±1, for rank 1."""


class Solutions(NamedTuple):
    """The learned matrices of one setting, measured; the runs are (starts, instances).

    Attributes:
        W: the learned matrices.
        converged: whether the loss fell to ``CONVERGED``.
        position: c, where on its line each lies.
        off_line: largest distance of a hidden entry to the line, relative to √(σ_p σ_q).
        predicted: c from the start alone.
        rank: numerical rank.
        norm_excess: nuclear norm relative to σ_p + σ_q, minus 1.
    """

    W: Float[np.ndarray, "starts instances 3 3"]
    converged: Bool[np.ndarray, "starts instances"]
    position: Float[np.ndarray, "starts instances"]
    off_line: Float[np.ndarray, "starts instances"]
    predicted: Float[np.ndarray, "starts instances"]
    rank: Int[np.ndarray, "starts instances"]
    norm_excess: Float[np.ndarray, "starts instances"]


def measure(data: Disconnected, start: Factors, trained: xr.Dataset) -> Solutions:
    """Places the solutions of one setting on their lines."""
    shape = np.shape(start.A)[:2]
    learned = (trained.A.values @ trained.B.values).reshape(*shape, 3, 3)
    hidden = np.where(data.mask, 0.0, learned)
    line = data.line
    position = (hidden * line).sum((-1, -2)) / (line**2).sum((-1, -2))
    off_line = np.abs(hidden - position[..., None, None] * line).max((-1, -2))
    values = np.linalg.svd(learned, compute_uv=False)
    x, y = data.directions(start)
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return Solutions(
        W=learned,
        converged=trained.mean_loss.values.reshape(shape) <= CONVERGED,
        position=position,
        off_line=off_line / np.sqrt(data.strength.prod(1)),
        predicted=(x * y).sum(-1) / lengths,
        rank=(values > RANK_RTOL * values[..., :1]).sum(-1),
        norm_excess=values.sum(-1) / data.strength.sum(1) - 1,
    )


def uniformity(position: Float[np.ndarray, " runs"], width: int) -> float:
    """The p-value of Kolmogorov and Smirnov for the law of c with two or three directions."""
    law = {2: stats.arcsine(-1, 2), 3: stats.uniform(-1, 2)}[width]
    return float(stats.kstest(position, law.cdf).pvalue)


def change(solutions: Solutions, greedy: GreedyPath) -> Float[np.ndarray, "starts instances"]:
    """|W - W_GLRL| relative to |W_GLRL|, Frobenius norms."""
    reference = greedy.W[:, -1]
    size = np.linalg.norm(reference, axis=(1, 2))
    return np.linalg.norm(solutions.W - reference, axis=(2, 3)) / size


class Traversal(NamedTuple):
    """Ways through the manifolds, component 0 the stronger one of each run.

    Attributes:
        step: of each look.
        loss: per observed entry; NaN after the end of a run.
        whole: distances of all of W_aug to Ω_0, Ω_1, Ω_2.
        component: those of each component to its own.
    """

    step: Int[np.ndarray, " looks"]
    loss: Float[np.ndarray, "runs looks"]
    whole: Float[np.ndarray, "runs looks 3"]
    component: Float[np.ndarray, "runs looks 2 3"]

    @property
    def stronger_first(self) -> Bool[np.ndarray, " runs"]:
        """Whether the stronger component reaches half of its final distance to Ω_0 first."""
        away = self.component[..., 0]
        last = np.nanmax(away, axis=1, keepdims=True)
        half = (away >= last / 2).argmax(1)
        return half[:, 0] <= half[:, 1]

    @property
    def largest_second(self) -> Float[np.ndarray, " runs"]:
        """The largest distance, on the way, of a component to its Ω_1."""
        return np.nanmax(self.component[..., 1], axis=(1, 2))


@jax.jit
@jax.vmap
def _distances(factors: Factors, members: jax.Array) -> tuple[jax.Array, jax.Array]:
    look = jax.vmap(lambda at: (distances(at), component_distances(at, members)))
    return look(factors)


def traversal(data: Disconnected, trained: xr.Dataset) -> Traversal:
    """The distances along the recorded ways of the instances of ``data``."""
    (look,) = (str(name) for name in trained.dims if str(name).startswith("step"))
    members = np.stack([component_members(observation_graph(mask)) for mask in data.mask])
    # Components are numbered by their first row; σ_p and σ_q have the block first.
    single_first = members[np.arange(len(members)), 0, data.single[:, 0]]
    strength = np.where(single_first[:, None], data.strength[:, ::-1], data.strength)
    members = np.take_along_axis(members, np.argsort(-strength, axis=1)[..., None], axis=1)

    ways = Factors(trained.A.values, trained.B.values)
    ended = np.isnan(ways.A).any((2, 3))
    whole, component = (
        np.array(leaf) for leaf in _distances(jax.tree.map(np.nan_to_num, ways), members)
    )
    whole[ended] = component[ended] = np.nan
    return Traversal(trained[look].values, trained.mean_loss.values, whole, component)
