"""The bridge to matrix completion: a factorization W = A B is a network, its hierarchy embeddings.

The network has one hidden layer, no biases, and the identity as activation: ``layer_0`` holds B,
``layer_1`` holds A, and the inputs are the unit vectors, so that the outputs are the columns of W.
Embeddings of narrow networks are thus embeddings of narrow factorizations, and the intrinsic
invariant manifolds Ω_k = {rank(A) = rank(B) = rank(W_aug) = k} of matrix completion (MF, arXiv
2405.13721) are what the *null* embeddings of width k reach under the rotations A Q, Qᵀ B: a W_aug
of rank k has an orthonormal basis of latent directions in which all columns but k are zero. A split
keeps W and criticality too (EP, arXiv 2105.14573), but its W_aug has rank k + 1 unless both copies
get one half: it lies outside Ω_k, and the flow, which conserves that rank, never enters it.

Everything but :func:`as_network` and :func:`as_problem` takes one factorization; vmap it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from phenodl.completion.manifolds import rotate
from phenodl.embedding import width
from phenodl.embedding.networks import require_network
from phenodl.models import mlp
from phenodl.models.factorization import Factors, stacked
from phenodl.protocol import Data, Hyper, Problem


class Narrowed(NamedTuple):
    """What is left of a factorization without its null units.

    Attributes:
        narrow: the factors of width k, the columns of their W_aug orthogonal, the longest first.
        rotation: Q, such that A Q and Qᵀ B begin with them.
        left_out: Frobenius norm of the rest of W_aug, the distance to Ω_k; zero where the factors
            are an embedding of the narrow ones, which ``null_embedding(narrow, inner, Qᵀ)``
            gives back.
    """

    narrow: Factors
    rotation: Float[Array, "inner inner"]
    left_out: Float[Array, ""]


def as_network(factors: Factors) -> mlp.Params:
    """The factors as the parameters of a network without biases.

    ``mlp.apply(params, I, activation)`` with the identity as matrix and as activation is W.

    Example:
        >>> params = as_network(Factors(jnp.ones((2, 1)), jnp.ones((1, 3))))
        >>> mlp.apply(params, jnp.eye(3), lambda signal: signal).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    return {"layer_0": {"weight": factors.B}, "layer_1": {"weight": factors.A}}


def as_factors(params: mlp.Params) -> Factors:
    """The factors that a network holds, the inverse of :func:`as_network`.

    Raises:
        ValueError: the network has not two layers, or a bias.

    Example:
        >>> as_factors(as_network(Factors(jnp.ones((2, 1)), jnp.zeros((1, 1))))).A.tolist()
        [[1.0], [1.0]]
    """
    require_network(params)
    biased = [name for name, layer in params.items() if "bias" in layer]
    if len(params) != 2 or biased:
        found = f"a bias in {', '.join(biased)}" if biased else f"{len(params)} layers"
        raise ValueError(f"params: expected two layers without biases, got {found}")
    return Factors(params["layer_1"]["weight"], params["layer_0"]["weight"])


def as_problem(problem: Problem) -> Problem:
    """A problem of factors as one of networks, for what finds or studies their critical points.

    Args:
        problem: from :func:`phenodl.models.factorization.problem`, of any loss.

    Returns:
        The same problem with the parameters of :func:`as_network`.

    Example:
        >>> from phenodl.models import factorization
        >>> data = {"target": jnp.zeros((2, 3)), "mask": jnp.ones((2, 3), bool)}
        >>> params = as_network(Factors(jnp.ones((2, 1)), jnp.ones((1, 3))))
        >>> float(as_problem(factorization.problem()).loss(params, data))
        3.0
    """

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> mlp.Params:
        return as_network(problem.init(key, data, hyper))

    def loss(params: mlp.Params, batch: Data) -> Float[Array, ""]:
        return problem.loss(as_factors(params), batch)

    return problem._replace(init=init, loss=loss)


def null_embedding(
    narrow: Factors, inner: int, rotation: Float[Array, "inner inner"] | None = None
) -> Factors:
    """A null embedding of narrow factors, in a chosen basis of the latent directions.

    Over all narrow factors of rank k and all rotations it reaches all of Ω_k and nothing else.

    Args:
        narrow: factors of width k.
        inner: the width of the embedding.
        rotation: an orthogonal Q: A Q and Qᵀ B are returned.

    Raises:
        ValueError: ``inner`` is less than the width of the factors.

    Example:
        >>> quarter_turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> null_embedding(Factors(jnp.ones((2, 1)), jnp.ones((1, 2))), 2, quarter_turn).A.tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """
    inner_narrow = narrow.A.shape[1]
    if inner < inner_narrow:
        raise ValueError(
            f"inner: expected at least {inner_narrow}, the factors' width, got {inner}"
        )
    params = as_network(narrow)
    for _ in range(inner - inner_narrow):
        params = width.null(params, 0)
    wide = as_factors(params)
    return wide if rotation is None else rotate(wide, rotation)


def remove_null_units(factors: Factors, rank: int) -> Narrowed:
    """Turns a factorization into the basis where all units but k are null, and leaves these out.

    The first k right singular vectors of W_aug are the latent directions that are used. What is
    left out is the least that can be, by Eckart and Young.

    Args:
        factors: of any inner width.
        rank: k, the units to keep.

    Raises:
        ValueError: ``rank`` is not in [1, inner].

    Example:
        >>> found = remove_null_units(Factors(jnp.full((2, 2), 0.5), jnp.ones((2, 2))), rank=1)
        >>> (found.narrow.A @ found.narrow.B).round(5).tolist(), float(found.left_out) < 1e-6
        ([[1.0, 1.0], [1.0, 1.0]], True)
    """
    inner = factors.A.shape[1]
    if not 1 <= rank <= inner:
        raise ValueError(f"rank: expected a number in [1, {inner}], got {rank}")
    _, values, directions = jnp.linalg.svd(stacked(factors))
    aligned = rotate(factors, directions.T)
    narrow = Factors(aligned.A[:, :rank], aligned.B[:rank])
    return Narrowed(narrow, directions.T, jnp.sqrt(jnp.sum(values[rank:] ** 2)))


def balance(factors: Factors) -> Factors:
    """The factors of the same W with Aᵀ A = B Bᵀ, the columns of W_aug orthogonal, longest first.

    A critical point stays one, for a change of the latent basis takes it there. The flow conserves
    Aᵀ A - B Bᵀ, and from a small start it is small: these are the factors that such a flow meets.

    Args:
        factors: of full inner rank, at most the smaller side of W.

    Example:
        >>> balanced = balance(Factors(jnp.array([[8.0]]), jnp.array([[2.0]])))
        >>> abs(float(balanced.A[0, 0])), abs(float(balanced.B[0, 0]))
        (4.0, 4.0)
    """
    inner = factors.A.shape[1]
    left, values, right = jnp.linalg.svd(factors.A @ factors.B, full_matrices=False)
    root = jnp.sqrt(values[:inner])
    return Factors(left[:, :inner] * root[None], root[:, None] * right[:inner])


def nearest_null_embedding(factors: Factors, narrow: Factors) -> tuple[Factors, Float[Array, ""]]:
    """Where the orbit of the null embeddings of narrow factors passes a factorization.

    The rotation is that of the orthogonal Procrustes problem (Schönemann, Psychometrika 31, 1966).

    Args:
        factors: a factorization, wide.
        narrow: of width k; for a balanced factorization, balanced ones.

    Returns:
        The embedding of the narrow factors, and the distance of W_aug from its own.

    Raises:
        ValueError: ``narrow`` is wider than ``factors``.

    Example:
        >>> narrow = Factors(jnp.ones((2, 1)), jnp.ones((1, 2)))
        >>> turned = null_embedding(narrow, 2, jnp.array([[0.0, 1.0], [-1.0, 0.0]]))
        >>> embedding, distance = nearest_null_embedding(turned, narrow)
        >>> embedding.A.tolist(), float(distance)
        ([[0.0, 1.0], [0.0, 1.0]], 0.0)
    """
    inner = factors.A.shape[1]
    aligned = null_embedding(narrow, inner)
    left, _, right = jnp.linalg.svd(stacked(aligned).T @ stacked(factors))
    nearest = rotate(aligned, left @ right)
    return nearest, jnp.linalg.norm(stacked(factors) - stacked(nearest))


def split_distance(
    column: Float[Array, " rows"],
    row: Float[Array, " columns"],
    alpha: float | Float[Array, ""],
) -> Float[Array, ""]:
    """How far a split of one unit (a, b) takes its part of W_aug from rank one.

    The copies are the columns ((1-α) a, b) and (α a, b). The Gram matrix of the two has the
    determinant |a|² |b|² (1-2α)² and the trace ((1-α)² + α²) |a|² + 2 |b|²; its smaller
    eigenvalue is the distance squared, zero for α = 1/2 alone. Derived.

    If the other columns of W_aug are orthogonal to both, and no shorter than this, it is the
    distance of the split from Ω_k.

    Args:
        column: a, the unit's column of A.
        row: b, its row of B.
        alpha: the share of the copy.

    Example:
        >>> float(split_distance(jnp.ones(1), jnp.ones(1), 0.5))
        0.0
        >>> round(float(split_distance(jnp.ones(1), jnp.ones(1), 0.0)) ** 2, 4)
        0.382
    """
    a, b = jnp.sum(column**2), jnp.sum(row**2)
    alpha = jnp.asarray(alpha, a.dtype)
    trace = ((1 - alpha) ** 2 + alpha**2) * a + 2 * b
    determinant = a * b * (1 - 2 * alpha) ** 2
    # The smaller root as determinant over the larger: their difference would cancel near 1/2.
    larger = (trace + jnp.sqrt(trace**2 - 4 * determinant)) / 2
    return jnp.sqrt(determinant / larger)
