"""Plateaus of a training: the stretches of its curve at which the gradient nearly vanishes.

A run that passes a saddle is drawn towards it, lingers and leaves. Its gradient falls and rises by
orders of magnitude while its loss hardly moves, so that a plateau is a local minimum of log |∇L|.
What the network looks like there (its rank, its number of distinct neurons) is for a study to say;
:func:`merge_neighbours` then joins the plateaus at which it looks the same.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.signal import find_peaks


class Plateaus(NamedTuple):
    """The plateaus of one curve, in the order of time, as places in the recorded history.

    Attributes:
        index: where the gradient norm is least.
        begin: the first record of the plateau, at which the gradient has fallen by half of the
            decades by which it stands out.
        end: the last one.
    """

    index: Int[np.ndarray, " plateaus"]
    begin: Int[np.ndarray, " plateaus"]
    end: Int[np.ndarray, " plateaus"]

    def at(self, chosen: ArrayLike) -> "Plateaus":
        """Some of the plateaus, by number or by mask."""
        return Plateaus(*(places[np.asarray(chosen)] for places in self))


def find(
    grad_norm: Float[ArrayLike, " steps"],
    loss: Float[ArrayLike, " steps"],
    *,
    prominence: float = 1.0,
    least_loss: float = 1e-10,
) -> Plateaus:
    """The plateaus of one recorded history: the local minima of log10 of the gradient norm.

    The start is none and the end is none: neither is a local minimum.

    Args:
        grad_norm: norm of the gradient; NaN from the end of the run on.
        loss: in units in which ``least_loss`` is small.
        prominence: decades by which the norm rises on both sides of a plateau.
        least_loss: below it the run is taken to have converged.

    Raises:
        ValueError: the histories differ in length, or ``prominence`` is not positive.

    Example:
        >>> found = find([1e-3, 1.0, 1e-4, 1.0, 1e-6], [9, 5, 4, 2, 1e-12])
        >>> found.index.tolist(), found.begin.tolist(), found.end.tolist()
        ([2], [2], [2])
    """
    norm, loss = np.asarray(grad_norm, float), np.asarray(loss, float)
    if norm.ndim != 1 or norm.shape != loss.shape:
        raise ValueError(
            f"grad_norm and loss must be two histories of one length, got {norm.shape} and "
            f"{loss.shape}"
        )
    if not prominence > 0:
        raise ValueError(f"prominence must be positive, got {prominence}")
    recorded = np.isfinite(norm)
    end = len(norm) if recorded.all() else int(recorded.argmin())
    index, found = find_peaks(depth(norm[:end]), prominence=prominence, width=0, rel_height=0.5)
    places = np.ceil(found["left_ips"]).astype(int), np.floor(found["right_ips"]).astype(int)
    return Plateaus(index, *places).at(loss[index] > least_loss)


def merge_neighbours(
    grad_norm: Float[ArrayLike, " plateaus"], kind: Int[ArrayLike, " plateaus"]
) -> Int[np.ndarray, " merged"]:
    """The deepest of every run of neighbouring plateaus of one kind.

    Args:
        grad_norm: at the plateaus, in the order of time.
        kind: what tells them apart, such as a rank or a number of neurons.

    Returns:
        The numbers of the plateaus that remain.

    Example:
        >>> merge_neighbours([1e-3, 1e-5, 1e-4, 1e-4], [1, 1, 2, 1]).tolist()
        [1, 2, 3]
    """
    kind, deep = np.asarray(kind), depth(grad_norm)
    runs = np.split(np.arange(len(kind)), np.flatnonzero(np.diff(kind)) + 1)
    return np.array([run[deep[run].argmax()] for run in runs if len(run)], int)


def depth(grad_norm: Float[ArrayLike, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Decades by which the gradient norm lies below 1; finite where it vanishes.

    Example:
        >>> depth([1.0, 1e-3]).round(9).tolist()
        [-0.0, 3.0]
    """
    return -np.log10(np.maximum(np.asarray(grad_norm, float), np.finfo(float).tiny))
