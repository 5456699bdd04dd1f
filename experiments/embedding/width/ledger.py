"""The claims."""

import numpy as np

from experiments.claims import Claim, Target, exact_claim, share_claim
from experiments.embedding.width.config import EXPERIMENT
from experiments.embedding.width.outcome import (
    Curves,
    Narrow,
    Survey,
    of_each_point,
)

_EP = "EP (arXiv 2105.14573)"
_EP_H = "EP-h (arXiv 2111.15527)"
_CONGRUENCE = "derived: the Hessian across a split is [[α(1-α)S, C], [Cᵀ, 0]] (split_hessian)"
_MOST = Target(">=", 0.9)
_OF_MINIMA = Target(">=", 0.8)  # of fewer points
_OF_POINTS = Target(">=", 0.6)  # a unit may happen to be nearly orthogonal to the errors
_OUTPUT = 1e-13
_CONTROL_GRADIENT = 1e-4


def preservation(embedded: Survey) -> list[Claim]:
    """Output, gradient and inertia of all embeddings, the control left out."""
    name, n = EXPERIMENT.name, len(embedded.kind)
    grows = ((embedded.wide >= embedded.narrow).all(axis=1)) & embedded.determined
    known = embedded.determined
    return [
        exact_claim(
            f"{name}/output",
            "No embedding changes an output by more than 1e-13.",
            _EP,
            float(embedded.output.max()),
            n,
            Target("<=", _OUTPUT),
        ),
        exact_claim(
            f"{name}/gradient",
            "No embedding of a critical point has a gradient above 1e-12.",
            _EP,
            float(embedded.grad_norm.max()),
            n,
            Target("<=", 1e-12),
        ),
        share_claim(
            f"{name}/inertia",
            "No embedding of a critical point has fewer negative, zero or positive eigenvalues than"
            " the point (embeddings whose inertia is clear of rounding).",
            _EP_H,
            of_each_point(grows[known], embedded.point[known]),
            _MOST,
        ),
    ]


def degeneracy(embedded: Survey, narrow: Narrow) -> list[Claim]:
    """The number of zero eigenvalues, at points that have none."""
    statements = {
        "split": "A split (α not 0 or 1) of a non-degenerate critical point adds one zero"
        " eigenvalue.",
        "compatible": "A compatible embedding of one adds K + Σ (k_s - 1)(k_t - 1) zero"
        " eigenvalues.",
        "null": "A null embedding of one adds fan-in + 1 + fan-out - 2 rank(Σ e xᵀ) zero"
        " eigenvalues.",
    }
    source = {"split": _EP_H, "compatible": f"{_EP_H}; derived", "null": "derived"}
    clear = embedded.determined & narrow.regular[embedded.point]
    claims = []
    for kind, statement in statements.items():
        rows = embedded.take(clear & (embedded.kind == kind))
        met = rows.wide[:, 1] == rows.zeros
        claims.append(
            share_claim(
                f"{EXPERIMENT.name}/zeros-{kind}",
                statement,
                source[kind],
                of_each_point(met, rows.point),
                _MOST,
            )
        )
    return claims


def control(drawn: Survey, narrow: Narrow) -> Claim:
    """Units that compute but have no output weights."""
    rows = drawn.take(narrow.loss[drawn.point] >= 1e-2)
    moved = rows.grad_norm > _CONTROL_GRADIENT
    points = np.unique(rows.point)
    met = [
        bool(moved[at].any() and (rows.output[at] <= _OUTPUT).all())
        for at in (rows.point == point for point in points)
    ]
    return share_claim(
        f"{EXPERIMENT.name}/control",
        "A unit with random input weights and zero output weights keeps the output but not the"
        " critical point: gradient above 1e-4 for at least one of the draws at every point of loss"
        " 1e-2 or more.",
        "derived: the gradient by its output weights is the error's correlation with it",
        met,
        _OF_POINTS,
    )


def saddles(embedded: Survey, along: Curves, raised_by_equal_splits: np.ndarray) -> list[Claim]:
    """Where splits make strict saddles of minima."""
    name, clear = EXPERIMENT.name, along.clear
    splits = embedded.take((embedded.kind == "split") & embedded.determined)
    same = (splits.wide - splits.narrow == splits.across).all(axis=1)
    raised = along.negative[:, clear]
    inside = (along.alpha > 0) & (along.alpha < 1)
    constant = _per_side(along, inside[clear])
    return [
        share_claim(
            f"{name}/split-inertia",
            "The inertia of a split is that of the point plus that of the Hessian across the split,"
            " at any depth.",
            _CONGRUENCE,
            of_each_point(same, splits.point),
            _MOST,
        ),
        share_claim(
            f"{name}/strict-saddle",
            "Every unit of a minimum of a network with one hidden layer makes it a strict saddle,"
            " split at some α.",
            f"{_EP_H}; derived: S ≠ 0, and α(1-α) takes both signs",
            of_each_point(np.any(raised > 0, axis=1), along.point),
            _OF_MINIMA,
        ),
        share_claim(
            f"{name}/sign-changes",
            "Along α the number of negative eigenvalues changes at 0 and 1 only: that of S between"
            " them, that of -S outside.",
            _CONGRUENCE,
            of_each_point(
                constant & (along.negative == along.predicted)[:, clear].all(axis=1), along.point
            ),
            _OF_MINIMA,
        ),
        share_claim(
            f"{name}/equal-splits",
            "Equal splits of none, one and both units of a minimum on a staircase raise 0, 1 and 2"
            " negative eigenvalues.",
            f"{_EP_H}, textbook example",
            (raised_by_equal_splits == [0, 1, 2]).all(axis=1),
            _OF_POINTS,
        ),
    ]


def _per_side(along: Curves, inside: np.ndarray) -> np.ndarray:
    """Whether the number of negative eigenvalues is one within (0, 1) and one outside."""
    raised = along.negative[:, along.clear]
    sides = (raised[:, inside], raised[:, ~inside])
    return np.all([(side == side[:, :1]).all(axis=1) for side in sides], axis=0)
