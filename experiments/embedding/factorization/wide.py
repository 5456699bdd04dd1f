"""The embeddings of narrow critical points, and what the wide loss looks like there."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from experiments.completion.hierarchy.instances import SIDE
from experiments.embedding.factorization.narrow import Narrow
from phenodl.compiler import QUICKLY
from phenodl.data.matrices import Instances
from phenodl.embedding import degeneracy, factorization, width
from phenodl.embedding.inertia import Inertia, inertia, spectrum
from phenodl.models import factorization as models
from phenodl.models.factorization import Factors
from phenodl.protocol import Params

KINDS = ("null", "null, rotated", "split")
"""Of the embeddings of each narrow point."""


class Embedded(NamedTuple):
    """Every accepted point of one narrow width, with leading axis (points,), embedded three ways.

    Attributes:
        instance: that each point belongs to.
        least: whether it is the instance's point of least loss.
        matrix: W of the narrow point.
        residual_values: singular values of its residual on the observed entries.
        narrow: Hessian eigenvalues of the narrow loss.
        added: those that each null unit adds, as predicted from the errors of the narrow network.
        predicted: numbers of negative, zero and positive eigenvalues in the full width, from both.
        alpha: of the split.
        stacked: W_aug of the embeddings.
        wide_matrix: their W.
        grad_norm: norm of the wide gradient.
        wide: eigenvalues of the wide Hessian.
        inertia: how many of them are negative, zero and positive.
        determined: whether zeros and others are clearly apart.
    """

    instance: Int[np.ndarray, " points"]
    least: Bool[np.ndarray, " points"]
    matrix: Float[np.ndarray, "points rows columns"]
    residual_values: Float[np.ndarray, "points side"]
    narrow: Float[np.ndarray, "points narrow_parameters"]
    added: Float[np.ndarray, "points added"]
    predicted: Int[np.ndarray, "points signs"]
    alpha: Float[np.ndarray, " points"]
    stacked: Float[np.ndarray, "points kinds rows_and_columns inner"]
    wide_matrix: Float[np.ndarray, "points kinds rows columns"]
    grad_norm: Float[np.ndarray, "points kinds"]
    wide: Float[np.ndarray, "points kinds wide_parameters"]
    inertia: Int[np.ndarray, "points kinds signs"]
    determined: Bool[np.ndarray, "points kinds"]


def embedded(points: Mapping[int, Narrow], family: Instances, seed: int) -> dict[int, Embedded]:
    """Embeds every accepted point: null, null and rotated at random, and with a random split."""
    rng = np.random.default_rng(seed)
    known, wide, data = {}, [], []
    for inner, narrow in points.items():
        instance, start = np.nonzero(narrow.accepted)
        left, right = (side[instance, start] for side in (narrow.left, narrow.right))
        rotation = np.linalg.qr(rng.standard_normal((len(instance), SIDE, SIDE)))[0]
        alpha = rng.uniform(-1, 2, len(instance))
        observed = {"target": family.target[instance], "mask": family.mask[instance]}
        factors = Factors(jnp.asarray(left), jnp.asarray(right))
        before, after = _embed(factors, rotation, alpha, observed)
        known[inner] = before | {
            "instance": instance,
            "least": start == narrow.least[instance],
            "alpha": alpha,
            "matrix": left @ right,
        }
        wide.append(jax.tree.map(np.asarray, after))
        data.append({name: np.repeat(each, len(KINDS), axis=0) for name, each in observed.items()})

    # All widths at once: one shape, and so one compilation.
    flat = jax.tree.map(lambda *s: np.concatenate(s).reshape(-1, *s[0].shape[2:]), *wide)
    measured = _measure(flat, jax.tree.map(lambda *each: np.concatenate(each), *data))
    ends = len(KINDS) * np.cumsum([len(before["instance"]) for before in known.values()])
    parts = {name: np.split(np.asarray(each), ends[:-1]) for name, each in measured.items()}
    return {
        inner: Embedded(
            **{name: np.asarray(each) for name, each in before.items()},
            **{name: _by_kind(each[number]) for name, each in parts.items()},
        )
        for number, (inner, before) in enumerate(known.items())
    }


def null(narrow: Factors) -> Factors:
    """The null embedding of one factorization into the full width."""
    return factorization.null_embedding(narrow, SIDE)


def split(narrow: Factors, alpha: Float[Array, ""]) -> Factors:
    """A split of one factorization's first unit, embedded into the full width by null units."""
    params = width.split(factorization.as_network(narrow), 0, 0, alpha)
    return null(factorization.as_factors(params))


def _by_kind(rows: np.ndarray) -> np.ndarray:
    """Rows as (points, kinds, ...)."""
    return rows.reshape(-1, len(KINDS), *rows.shape[1:])


def _loss(params: Params, data: models.Observations) -> Float[Array, ""]:
    return factorization.as_problem(models.problem()).loss(params, data)


def _spectrum(params: Params, data: models.Observations) -> Float[Array, " n"]:
    return spectrum(lambda p: _loss(p, data), params)


def _counts(inertia: Inertia) -> Int[Array, " signs"]:
    return jnp.stack(inertia[:3])


def _of_each_point(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(jax.vmap(function), compiler_options=dict(QUICKLY))


@_of_each_point
def _embed(
    narrow: Factors, rotation: Float[Array, "inner inner"], alpha: Float[Array, ""], data: dict
) -> tuple[dict[str, Array], Factors]:
    """What is known from the narrow point alone, and its embeddings, stacked."""
    params = factorization.as_network(narrow)

    def of_outputs(outputs: Float[Array, "rows columns"]) -> Float[Array, ""]:
        errors = models.squared_error(outputs, data["target"])
        return jnp.where(data["mask"], errors, 0.0).sum()

    inputs = jnp.eye(narrow.B.shape[1], dtype=narrow.B.dtype)
    transverse = degeneracy.null_hessian(params, 0, 0.0, inputs, lambda signal: signal, of_outputs)
    alone, added = _spectrum(params, data), jnp.linalg.eigvalsh(transverse)
    units = SIDE - narrow.B.shape[0]
    largest = jnp.maximum(jnp.abs(alone).max(), jnp.abs(added).max())  # of the wide Hessian
    counts = [_counts(inertia(part, scale=largest)) for part in (alone, added)]
    before = {
        "narrow": alone,
        "added": added,
        "predicted": counts[0] + units * counts[1],
        "residual_values": jnp.linalg.svd(models.residual(narrow, data), compute_uv=False),
    }
    rotated = factorization.null_embedding(narrow, SIDE, rotation)
    wide = (null(narrow), rotated, split(narrow, alpha))
    return before, jax.tree.map(lambda *sides: jnp.stack(sides), *wide)


@_of_each_point
def _measure(wide: Factors, data: dict) -> dict[str, Array]:
    params = factorization.as_network(wide)
    eigenvalues = _spectrum(params, data)
    counted = inertia(eigenvalues)
    return {
        "stacked": models.stacked(wide),
        "wide_matrix": models.product(wide),
        "grad_norm": jnp.linalg.norm(ravel_pytree(jax.grad(_loss)(params, data))[0]),
        "wide": eigenvalues,
        "inertia": _counts(counted),
        "determined": counted.determined,
    }
