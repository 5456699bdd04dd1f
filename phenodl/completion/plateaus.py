"""Plateaus of a training: where the gradient nearly vanishes, of which rank, at what loss.

From a small start gradient flow visits the neighbourhoods of Omega_1, Omega_2, ... in turn, the
manifolds of factors whose W_aug has rank 1, 2, ... (MF, arXiv 2405.13721, Fig. 3). Where the
plateaus of a curve lie is the rule of :mod:`phenodl.plateaus`; what tells them apart is their rank.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from phenodl import plateaus, probes
from phenodl.protocol import Probe, View

PLATEAU_RTOL = 1e-2
"""Singular values at a plateau, of A, B, W_aug and W, count above this share of the largest."""


class Plateaus(NamedTuple):
    """The plateaus of one run, in the order of time.

    Attributes:
        index: their places in the recorded history, where the gradient norm is least.
        rank: of W_aug.
        loss: as recorded, per observed entry.
    """

    index: Int[np.ndarray, " plateaus"]
    rank: Int[np.ndarray, " plateaus"]
    loss: Float[np.ndarray, " plateaus"]


def find_plateaus(
    grad_norm: Float[ArrayLike, " steps"],
    loss: Float[ArrayLike, " steps"],
    singular_values: Float[ArrayLike, "steps inner"],
    *,
    prominence: float = 1.0,
    least_loss: float = 1e-10,
    rtol: float = PLATEAU_RTOL,
) -> Plateaus:
    """The plateaus of one recorded history.

    A plateau is a local minimum of log10 of the gradient norm; neighbours of equal rank are one,
    which lies where the gradient is least. The start is none: it is no local minimum.

    Args:
        grad_norm: Euclidean norm of the gradient; NaN from the end of the run on.
        loss: per observed entry.
        singular_values: of W_aug, largest first.
        prominence: decades by which the norm rises on both sides of a plateau.
        least_loss: below it the run is taken to have converged.
        rtol: singular values above this share of the largest count.

    Raises:
        ValueError: the histories differ in length.

    Example:
        >>> grad_norm = [1e-3, 1.0, 1e-4, 1.0, 1e-6]
        >>> found = find_plateaus(grad_norm, [9, 5, 4, 2, 1e-12], [[2.0, 1e-3]] * 5)
        >>> found.index.tolist(), found.rank.tolist(), found.loss.tolist()
        ([2], [1], [4.0])
    """
    norm, loss, values = (np.asarray(each, float) for each in (grad_norm, loss, singular_values))
    if norm.ndim != 1 or norm.shape != loss.shape or values.shape[:-1] != norm.shape:
        raise ValueError(
            "grad_norm, loss and singular_values must be (steps,), (steps,) and (steps, inner), "
            f"got {norm.shape}, {loss.shape} and {values.shape}"
        )
    found = plateaus.find(norm, loss, prominence=prominence, least_loss=least_loss)
    rank = (values[found.index] > rtol * values[found.index, :1]).sum(-1)
    chosen = plateaus.merge_neighbours(norm[found.index], rank)
    index = found.index[chosen]
    return Plateaus(index, rank[chosen], loss[index])


@functools.cache
def history(every: int) -> tuple[Probe, ...]:
    """Probes that record what plateaus are found in: ``A``, ``B``, ``loss`` and ``grad_norm``.

    The factors are recorded whole, for so small a model in place of all that follows from them: W,
    the spectra, the directions in which it leaves a saddle. A measurement takes
    2 + inner (rows + columns) numbers, so that ``every`` decides the memory.

    Args:
        every: measure at every so many steps. With a graded gauge, take a multiple of its cadence:
            the columns of W_aug are then recorded as it leaves them, orthogonal.

    Example:
        >>> [probe.every for probe in history(8)]
        [8, 8, 8]
    """

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, view.params._asdict()

    return Probe(measure, every=every), probes.loss(every), probes.grad_norm(every)


def spectra(
    a: Float[ArrayLike, "*batch rows inner"], b: Float[ArrayLike, "*batch inner columns"]
) -> dict[str, Float[np.ndarray, "*batch side"]]:
    """The singular values of ``A``, ``B``, ``W_aug`` and ``W``, largest first.

    Example:
        >>> values = spectra([[3.0]], [[4.0]])
        >>> {name: value.round(9).tolist() for name, value in values.items()}
        {'A': [3.0], 'B': [4.0], 'W_aug': [5.0], 'W': [12.0]}
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    matrices = {"A": a, "B": b, "W_aug": np.concatenate([a, b.swapaxes(-1, -2)], -2), "W": a @ b}
    return {name: np.linalg.svd(each, compute_uv=False) for name, each in matrices.items()}
