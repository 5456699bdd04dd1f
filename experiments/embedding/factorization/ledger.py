"""What is claimed of factorizations as networks."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Bool

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim, share_claim
from experiments.completion.hierarchy.instances import SIDE
from experiments.completion.hierarchy.outcome import of_each_run
from experiments.embedding.factorization.config import EXPERIMENT, Config
from experiments.embedding.factorization.departures import Departures, whole
from experiments.embedding.factorization.narrow import WIDTHS, Narrow
from experiments.embedding.factorization.passage import Passage
from experiments.embedding.factorization.wide import KINDS, Embedded
from phenodl.embedding.factorization import split_distance
from phenodl.models.factorization import Factors

_MF = "MF (arXiv 2405.13721)"
_EP = "EP (arXiv 2105.14573)"
_ZERO = 1e-10
"""Singular values of W_aug up to this share of the largest are zero."""
_KEPT = 1e-6
"""Relative change of the loss up to which the flow has come back."""


def embedding_claims(embedded: Mapping[int, Embedded]) -> list[Claim]:
    """Output, gradient and inertia of the embeddings of all narrow critical points."""
    name = EXPERIMENT.name
    every = list(embedded.values())
    count = sum(each.grad_norm.size for each in every)
    return [
        exact_claim(
            f"{name}/output",
            "The largest change of an entry of W under an embedding, null, rotated or split.",
            _EP,
            max(np.abs(each.wide_matrix - each.matrix[:, None]).max() for each in every),
            count,
            Target("<=", 1e-12),
        ),
        exact_claim(
            f"{name}/critical",
            "The largest norm of the gradient at an embedding of a narrow critical point.",
            _EP,
            max(each.grad_norm.max() for each in every),
            count,
            Target("<=", 1e-11),
        ),
        exact_claim(
            f"{name}/least-eigenvalue",
            "The least Hessian eigenvalue of a null embedding is minus the largest singular value"
            " of the residual, or the narrow one if that is less: the largest relative error.",
            "derived: a null unit adds the block [[0, R], [Rᵀ, 0]]",
            max(_least_eigenvalue_error(each).max() for each in every),
            sum(len(each.instance) for each in every),
            Target("<=", 1e-9),
        ),
        share_claim(
            f"{name}/inertia",
            "All embeddings of all critical points found for a ground truth have the Hessian"
            " inertia of the narrow point plus, for each unit more, that of a null unit (rank(R)"
            " negative and positive ones each): splits too, though their eigenvalues differ.",
            "EP-h (arXiv 2111.15527); derived: A G, G⁻¹ B takes one embedding to the other",
            _of_each_instance(embedded, list(map(_inertia_is_predicted, every))),
            Target(">=", 0.85),
        ),
        share_claim(
            f"{name}/degeneracy",
            f"At these points the number of zero eigenvalues is k² + 2 k ({SIDE} - k), the"
            " dimension of the orbit A G, G⁻¹ B of all invertible G: nothing else is flat.",
            "derived",
            _of_each_instance(
                embedded, [_only_the_orbit_is_flat(e, k) for k, e in embedded.items()]
            ),
            Target(">=", 0.85),
        ),
    ]


def orbit_claims(
    embedded: Mapping[int, Embedded],
    starts: Mapping[int, Factors],
    balanced: Mapping[int, Factors],
    config: Config,
) -> list[Claim]:
    """Which embeddings lie on Omega_k, and how far from it splits do."""
    name = EXPERIMENT.name
    ranks = [
        (_rank(each.stacked) == k + np.array([kind == "split" for kind in KINDS])).all(1)
        for k, each in embedded.items()
    ]
    errors = [np.abs(_distance(starts[k], k)[1:] - _predicted(balanced[k], config)) for k in WIDTHS]
    return [
        share_claim(
            f"{name}/rank",
            "W_aug has rank k at every null embedding of a critical point of width k, rotated or"
            " not, and rank k + 1 at every split with a random share.",
            f"{_MF}, definition of the manifolds; derived",
            _of_each_instance(embedded, ranks),
            Target(">=", 0.85),
        ),
        exact_claim(
            f"{name}/split-distance",
            "The distance of a split from Ω_k follows from |a|, |b| and α, and is zero for one half"
            " alone: the largest error.",
            "derived",
            max(error.max() for error in errors),
            sum(error.size for error in errors),
            Target("<=", 1e-12),
        ),
    ]


def departure_claims(
    left: Departures,
    points: Mapping[int, Narrow],
    embedded: Mapping[int, Embedded],
    config: Config,
) -> list[Claim]:
    """Where the flow goes from displaced embeddings of the best fits."""
    name = EXPERIMENT.name
    least = np.stack([points[k].of_least_loss(points[k].loss) for k in WIDTHS])
    minima = np.all([_has_minimum(embedded[k], least.shape[1]) for k in WIDTHS], axis=0)
    ratio = (left.loss[..., -1] / least[:, None])[:, :, minima]
    on = np.array([True, *(alpha == 0.5 for alpha in config.alphas)])
    values = np.linalg.svd(left.stacked, compute_uv=False)
    rank = (values > _ZERO * values[..., :1]).sum(-1)
    expected = np.array(WIDTHS)[:, None, None] + ~on[None, :, None]
    return [
        share_claim(
            f"{name}/omega-holds",
            "Displaced within Ω_k, the null embedding and the equal split of the best rank-k fit"
            f" come back to its loss (to {_KEPT:g}), for k = 1 and 2, where minima were found.",
            f"{_MF}: Ω_k is invariant",
            (np.abs(ratio[:, on] - 1) <= _KEPT).all((0, 1)),
            Target(">=", 0.85),
        ),
        share_claim(
            f"{name}/splits-leave",
            "Displaced as much, without a change of rank(W_aug) either, all other splits of the"
            " best rank-1 fit fall below half of its loss, within the given steps.",
            "derived: they are outside Ω_k, and strict saddles where they are",
            (ratio[0, ~on] < 0.5).all(0),
            Target(">=", 0.85),
        ),
        share_claim(
            f"{name}/rank-conserved",
            "At the end rank(W_aug) is what it was, k on Ω_k and k + 1 for all other splits.",
            f"{_MF}: the flow conserves rank(W_aug)",
            (rank == expected).all((0, 1)),
            Target(">=", 0.85),
        ),
    ]


def plateau_claims(passed: Passage) -> list[Claim]:
    """Plateaus of the flow from a tiny start against embedded narrow critical points."""
    name, bounds = EXPERIMENT.name, {1: 1e-7, 2: 1e-5}
    run = passed.plateaus.run
    return [
        share_claim(
            f"{name}/plateaus-matched",
            "Of the narrow critical points of the rank of W_aug, the one nearest to W has the least"
            " loss that the search found, at all plateaus of a run.",
            f"{_MF}, Fig. 3; {_EP}, Fig. 1",
            of_each_run(passed.nearest, run, np.all),
            Target(">=", 0.85),
        ),
        bootstrap_claim(
            f"{name}/plateaus-null",
            "Rotated into the basis where all units but k are null, a plateau has null units of"
            " norm 1e-4 at most: the median over runs of the largest one.",
            f"{_MF}, definition of the manifolds",
            of_each_run(passed.left_out, run, np.nanmax),
            Target("<=", 1e-4),
        ),
        *(
            bootstrap_claim(
                f"{name}/plateau-narrow-{k}",
                f"Without them, and balanced, a plateau of rank {k} is the narrow critical point of"
                f" width {k}: the median distance, over its rotations, is at most {bounds[k]:g}.",
                f"{_MF}, Fig. 3; {_EP}, Fig. 1",
                passed.narrow_distance[passed.plateaus.rank == k],
                Target("<=", bounds[k]),
            )
            for k in WIDTHS
        ),
    ]


def _has_minimum(each: Embedded, instances: int) -> Bool[np.ndarray, " instances"]:
    """Whether the narrow point of least loss has no negative eigenvalue."""
    stable = each.narrow[:, 0] >= -_ZERO * np.abs(each.narrow).max(axis=1)
    return np.isin(np.arange(instances), each.instance[each.least & stable])


def _least_eigenvalue_error(each: Embedded) -> np.ndarray:
    predicted = np.minimum(each.narrow[:, 0], -each.residual_values[:, 0])
    rotated_or_not = np.array([kind != "split" for kind in KINDS])
    return np.abs(each.wide[:, rotated_or_not, 0] / predicted[:, None] - 1)


def _inertia_is_predicted(each: Embedded) -> Bool[np.ndarray, " points"]:
    return (each.determined & (each.inertia == each.predicted[:, None]).all(2)).all(1)


def _only_the_orbit_is_flat(each: Embedded, width: int) -> Bool[np.ndarray, " points"]:
    orbit = width**2 + 2 * width * (SIDE - width)
    return (each.determined & (each.inertia[:, :, 1] == orbit)).all(1)


def _rank(stacked: np.ndarray) -> np.ndarray:
    values = np.linalg.svd(stacked, compute_uv=False)
    return (values > _ZERO * values[..., :1]).sum(-1)


def _distance(start: Factors, width: int) -> np.ndarray:
    """Of W_aug from Omega_k, by its singular values."""
    values = np.linalg.svd(whole(start), compute_uv=False)
    return np.linalg.norm(values[..., width:], axis=-1)


def _predicted(narrow: Factors, config: Config) -> np.ndarray:
    """Of the splits from Omega_k, by the closed form; leading axes (alphas, instances)."""
    per_alpha = jax.vmap(split_distance, in_axes=(None, None, 0))
    left, right = np.asarray(narrow.A), np.asarray(narrow.B)
    per_instance = jax.vmap(per_alpha, in_axes=(0, 0, None), out_axes=1)
    first = jax.jit(per_instance)(left[:, :, 0], right[:, 0], np.asarray(config.alphas))
    others = np.sqrt((left[:, :, 1:] ** 2).sum(1) + (right[:, 1:] ** 2).sum(2))
    return np.minimum(first, others.min(axis=1, initial=np.inf)[None])


def _of_each_instance(embedded: Mapping[int, Embedded], met: list[np.ndarray]) -> np.ndarray:
    """Whether all points of an instance meet a condition, of all widths."""
    instance = np.concatenate([each.instance for each in embedded.values()])
    return of_each_run(np.concatenate(met), instance, np.all)
