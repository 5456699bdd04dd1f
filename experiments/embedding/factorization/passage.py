"""The plateaus of gradient flow from a tiny start, held against the narrow critical points."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from experiments.completion.hierarchy.outcome import History, Saddles, saddles
from experiments.embedding.factorization.narrow import Narrow
from phenodl.data.matrices import Instances
from phenodl.embedding import factorization
from phenodl.models.factorization import Factors


class Passage(NamedTuple):
    """How the runs pass the embeddings of narrow critical points.

    Attributes:
        plateaus: of all runs.
        distance: by narrow width, of W_aug from the nearest null embedding of the best fit.
        nearest: whether, of all narrow critical points of the plateau's rank, W is nearest to the
            best fit; one entry per plateau, false for a rank that was not searched.
        left_out: norm of the null units in the basis where all units but k are null; NaN as below.
        narrow_distance: of the other units, as narrow factors, from the best fit's, both balanced,
            over the rotations of these. (The flow is balanced, its discrete steps are not quite.)
        gap: loss of the plateau minus that of the best fit, over the latter; NaN where unknown.
    """

    plateaus: Saddles
    distance: Mapping[int, Float[np.ndarray, "runs records"]]
    nearest: Bool[np.ndarray, " plateaus"]
    left_out: Float[np.ndarray, " plateaus"]
    narrow_distance: Float[np.ndarray, " plateaus"]
    gap: Float[np.ndarray, " plateaus"]


def passage(
    history: History,
    narrow: Mapping[int, Narrow],
    balanced: Mapping[int, Factors],
    family: Instances,
) -> Passage:
    """Looks at every record of every run, and at the plateaus."""
    passed = saddles(history)
    loss = passed.loss * family.mask.sum((1, 2))[passed.run]
    wide = Factors(jnp.asarray(history.left), jnp.asarray(history.right))
    distance = {width: np.asarray(_distance(wide, balanced[width])) for width in narrow}

    nearest = np.zeros(len(passed.run), bool)
    left_out, apart, gap = np.full((3, len(passed.run)), np.nan)
    for width, points in narrow.items():
        of_width = passed.rank == width
        run, record = passed.run[of_width], passed.record[of_width]
        matrix = history.left[run, record] @ history.right[run, record]
        errors = np.linalg.norm(points.matrix[run] - matrix[:, None], axis=(2, 3))
        closest = np.where(points.accepted[run], errors, np.inf).argmin(axis=1)
        least = points.of_least_loss(points.loss)[run]
        nearest[of_width] = points.loss[run, closest] <= least * (1 + 1e-9)
        gap[of_width] = loss[of_width] / least - 1
        at_rest = Factors(wide.A[run, record], wide.B[run, record])
        best = Factors(balanced[width].A[run], balanced[width].B[run])
        left_out[of_width], apart[of_width] = _without_null_units(at_rest, best)
    return Passage(passed, distance, nearest, left_out, apart, gap)


@jax.jit
@jax.vmap
def _distance(wide: Factors, narrow: Factors) -> Float[Array, " records"]:
    """Of every record of a run from the null embeddings of its narrow factors."""
    return jax.vmap(lambda one: factorization.nearest_null_embedding(one, narrow)[1])(wide)


@jax.jit
@jax.vmap
def _without_null_units(
    wide: Factors, narrow: Factors
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The norm of a plateau's null units, and how far the others are from the narrow factors."""
    found = factorization.remove_null_units(wide, narrow.A.shape[1])
    used = factorization.balance(found.narrow)
    return found.left_out, factorization.nearest_null_embedding(used, narrow)[1]
