"""The plateaus of every run, and what the flow looks like while it rests there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from experiments.completion.gradient_flow import CONVERGED
from experiments.completion.hierarchy.instances import RANK
from phenodl.completion.low_rank_fit import best_fit
from phenodl.completion.norms import numerical_rank
from phenodl.completion.plateaus import PLATEAU_RTOL, find_plateaus, spectra
from phenodl.data.matrices import Instances

RANKS = range(1, RANK)
"""Of the saddles on the way to a solution."""
_LEAVING = 1e-3
"""Of the largest singular value of W_aug, up to which a run counts as leaving the origin."""


class History(NamedTuple):
    """A recorded training. From the second record on the columns of W_aug are orthogonal.

    Attributes:
        step: of each record.
        left, right: the factors A and B.
        loss: per observed entry.
        grad_norm: of the whole gradient.
    """

    step: Int[np.ndarray, " records"]
    left: Float[np.ndarray, "runs records side inner"]
    right: Float[np.ndarray, "runs records inner side"]
    loss: Float[np.ndarray, "runs records"]
    grad_norm: Float[np.ndarray, "runs records"]


class Saddles(NamedTuple):
    """Plateaus of several runs, one row each.

    Attributes:
        run: that passes.
        record: of the history at which its gradient is least.
        rank: of W_aug.
        loss: per observed entry.
    """

    run: Int[np.ndarray, " saddles"]
    record: Int[np.ndarray, " saddles"]
    rank: Int[np.ndarray, " saddles"]
    loss: Float[np.ndarray, " saddles"]

    def of_rank(self, rank: int) -> "Saddles":
        """Those of one rank."""
        return Saddles(*(column[self.rank == rank] for column in self))


class Solutions(NamedTuple):
    """What a training has learned.

    Attributes:
        converged: whether the loss per observed entry fell to ``CONVERGED``.
        rank: numerical rank of W.
    """

    converged: Bool[np.ndarray, "*runs"]
    rank: Int[np.ndarray, "*runs"]

    @classmethod
    def of(cls, trained: xr.Dataset) -> "Solutions":
        """Those at the end of a training."""
        learned = jnp.asarray(trained.W.values)
        converged = trained.mean_loss.values <= CONVERGED
        return cls(converged, np.asarray(numerical_rank(learned)))


class Escapes(NamedTuple):
    """How runs leave a saddle of rank k: the latent directions of W_aug beyond the first k.

    Attributes:
        run: that leaves.
        second: singular value of the second such direction over that of the first.
        left, right: |cos| between the first direction's part in A, or B, and the first left, or
            right, singular vector of the residual on the observed entries.
    """

    run: Int[np.ndarray, " saddles"]
    second: Float[np.ndarray, " saddles"]
    left: Float[np.ndarray, " saddles"]
    right: Float[np.ndarray, " saddles"]


def read(trained: xr.Dataset, family: Instances) -> History:
    """The history of a training."""
    names = ("A", "B", "loss", "grad_norm")
    left, right, loss, grad_norm = (trained[name].values for name in names)
    observed = family.mask.sum((1, 2))[:, None]
    (step,) = (trained[name].values for name in trained.loss.dims if name.startswith("step"))
    return History(step, left, right, loss / observed, grad_norm)


def saddles(history: History) -> Saddles:
    """The plateaus of all runs, in the order of runs and of time."""
    stacked = np.concatenate([history.left, history.right.swapaxes(2, 3)], axis=2)
    values = np.linalg.svd(stacked, compute_uv=False)
    found = [
        find_plateaus(*run) for run in zip(history.grad_norm, history.loss, values, strict=True)
    ]
    run = np.repeat(np.arange(len(found)), [len(plateaus.index) for plateaus in found])
    return Saddles(run, *(np.concatenate(column) for column in zip(*found, strict=True)))


def sequence_is_exact(passed: Saddles, runs: int) -> Bool[np.ndarray, " runs"]:
    """Whether a run rests at every rank below the last, once each and in order."""
    return np.array([passed.rank[passed.run == run].tolist() == list(RANKS) for run in range(runs)])


def ranks_agree(history: History, passed: Saddles) -> Bool[np.ndarray, " saddles"]:
    """Whether A, B and W have the rank of W_aug at a plateau."""
    values = spectra(*_factors(history, passed.run, passed.record))
    rank = [(each > PLATEAU_RTOL * each[:, :1]).sum(-1) for each in values.values()]
    return (np.array(rank) == passed.rank).all(axis=0)


def of_each_run(
    values: np.ndarray, run: Int[np.ndarray, " saddles"], reduce: Callable[[np.ndarray], Any]
) -> np.ndarray:
    """What the saddles of a run, as far as it has any, amount to: one number for each run."""
    return np.array([reduce(values[run == one]) for one in np.unique(run)], values.dtype)


def distance_to_best_fit(
    history: History, passed: Saddles, rank: int, family: Instances
) -> Float[np.ndarray, " saddles"]:
    """|W - W_k|_F from the best fit of a rank k; infinite where none was found."""
    left, right = _factors(history, passed.run, passed.record)
    fit = best_fit(family.target[passed.run], family.mask[passed.run], rank)
    distance = np.linalg.norm(left @ right - fit.matrix, axis=(1, 2))
    return np.where(fit.attained, distance, np.inf)


def escapes(history: History, passed: Saddles, rank: int, family: Instances) -> Escapes:
    """The directions in which runs leave saddles of one rank, seen where the gradient is least."""
    return _directions(history, passed.run, passed.record, rank, family)


def escapes_from_origin(history: History, family: Instances) -> Escapes:
    """The directions in which all runs leave the origin, at the last record where W_aug is tiny."""
    largest = column_norms(history)[:, :, 0]
    tiny = largest <= _LEAVING * largest.max(axis=1, keepdims=True)
    record = tiny.shape[1] - 1 - tiny[:, ::-1].argmax(axis=1)
    return _directions(history, np.arange(len(tiny)), record, 0, family)


def column_norms(history: History) -> Float[np.ndarray, "runs records inner"]:
    """The singular values of W_aug through time, largest first, but for the start itself.

    Its columns are orthogonal, and their norms tell the small values next to the large ones apart
    at scales where a decomposition in double precision sees rounding alone.
    """
    square = (history.left**2).sum(2) + (history.right**2).sum(3)
    return -np.sort(-np.sqrt(square), axis=-1)


def _factors(history: History, run: np.ndarray, record: np.ndarray) -> tuple:
    return history.left[run, record], history.right[run, record]


def _directions(
    history: History, run: np.ndarray, record: np.ndarray, rank: int, family: Instances
) -> Escapes:
    left, right = _factors(history, run, record)
    norm = np.sqrt((left**2).sum(1) + (right**2).sum(2))  # of the orthogonal columns of W_aug
    order = np.argsort(-norm, axis=1)
    first, second = order[:, rank], order[:, rank + 1]
    each = np.arange(len(run))

    residual = np.where(family.mask[run], family.target[run] - left @ right, 0.0)
    u, _, vt = np.linalg.svd(residual)
    return Escapes(
        run=run,
        second=norm[each, second] / norm[each, first],
        left=_cosine(left[each, :, first], u[:, :, 0]),
        right=_cosine(right[each, first], vt[:, 0]),
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " rows"]:
    a = a / np.abs(a).max(axis=1, keepdims=True)  # 1e-200 squared would be zero
    return np.abs((a * b).sum(1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
