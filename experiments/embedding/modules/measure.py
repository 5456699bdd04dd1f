"""Embeddings of critical points by one unit, measured in a wide network common to all kinds.

The wide network has one unit more of every kind. One kind is split; the others get a null unit,
whose coordinates are left out of the Hessian, so that a single compiled program serves all kinds.

The Hessian after a split is congruent to that of the narrow network and M / (α (1 - α)), with
M = [[S, C], [Cᵀ, 0]] over incoming and outgoing slices of the unit: what the loss, linear in what
the unit gives to the next layer, has of second derivatives there (derived; for neurons in EP-h,
arXiv 2111.15527). S and C do not depend on α, and follow from the Hessians at α = 1 and α = -1.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from experiments.embedding.modules.networks import Network, squared_error
from phenodl.compiler import ONCE, QUICKLY
from phenodl.embedding import units
from phenodl.embedding.inertia import RTOL, inertia
from phenodl.protocol import Params

_once = functools.partial(jax.jit, compiler_options=dict(ONCE))
_AT_ONCE = 4  # Hessians, which bounds the memory
_UNIT_RTOL = 1e-9  # of zeros of M, which is the difference of larger matrices


class Counts(NamedTuple):
    """Numbers of eigenvalues by sign, see :class:`phenodl.embedding.inertia.Inertia`."""

    negative: Int[np.ndarray, "*batch"]
    zero: Int[np.ndarray, "*batch"]
    positive: Int[np.ndarray, "*batch"]
    determined: Bool[np.ndarray, "*batch"]


class Embeddings(NamedTuple):
    """Splits of one kind of unit; all arrays are (bases, draws).

    Attributes:
        alpha: share of the copy.
        output: largest change of an output.
        gradient: norm of the gradient of the wide network, with null units of the other kinds.
        control: norm of the gradient with a unit of random incoming and no outgoing slices instead.
        before: inertia of the narrow network, (bases, 1).
        after: inertia of the wide one.
        predicted: inertia of the wide one from the narrow one and M.
    """

    alpha: Float[np.ndarray, "bases draws"]
    output: Float[np.ndarray, "bases draws"]
    gradient: Float[np.ndarray, "bases draws"]
    control: Float[np.ndarray, "bases draws"]
    before: Counts
    after: Counts
    predicted: Counts


def measure(
    network: Network,
    params: Params,
    targets: Float[np.ndarray, "bases n outputs"],
    draws: int,
    seed: int,
) -> dict[str, Embeddings]:
    """Splits random units at random shares, by kind of unit.

    Args:
        network: the narrow and the wide one.
        params: the critical points, along a leading axis.
        targets: of each.
        draws: splits of each base and kind.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, 1])
    bases, shape = len(targets), (len(targets), draws)
    every = np.repeat(np.arange(bases), draws)
    padded, coordinates = _frame(network, params)
    points, alphas = [padded], []
    for kind, places in network.units.items():
        unit = rng.integers(units.count(_first(params), places(_first(params))), size=every.size)
        alpha = _shares(rng, every.size)
        shares = np.stack([alpha, *(np.full(alpha.shape, share) for share in (1.0, -1.0, 0.0))])
        wide = _splits(network, kind, params, unit, shares)
        inward = coordinates[kind][1]
        wide[-1] += inward * rng.standard_normal(wide[-1].shape)
        points.extend(wide)
        alphas.append(alpha.reshape(shape))
    owner = np.concatenate([np.arange(bases), *[every] * (len(points) - 1)])
    outputs, gradient, hessian = _evaluate(network, params, np.concatenate(points), targets[owner])
    reference = np.asarray(_once(jax.vmap(network.outputs))(params))
    output = np.abs(outputs - reference[owner]).max((1, 2))
    norm = np.linalg.norm(gradient, axis=1)

    found, at = {}, bases
    for kind, alpha in zip(network.units, alphas, strict=True):
        rows = np.arange(at, at + 4 * every.size).reshape(4, *shape)
        at += rows.size
        inner, inward, outward = coordinates[kind]
        split, one, minus_one, control = rows
        unit = _unit_block(hessian[one], hessian[minus_one], inward, outward)
        sign = np.sign(alpha * (1 - alpha))[..., None, None]
        before = _inertia(_block(hessian[:bases], inner))
        before = Counts(*(each[:, None] for each in before))
        found[kind] = Embeddings(
            alpha=alpha,
            output=output[split],
            gradient=norm[split],
            control=norm[control],
            before=before,
            after=_inertia(_block(hessian[split], inner | inward | outward)),
            predicted=_sum(before, _inertia(sign * unit, _UNIT_RTOL)),
        )
    return found


def pad(
    network: Network,
    params: Params,
    kind: str = "",
    unit: int | Array = 0,
    alpha: float | Array = 0.0,
) -> Float[Array, " wide"]:
    """The flat parameters of the wide network: one kind of unit split, null units of the others."""
    for name, places in network.units.items():
        if name == kind:
            params = units.split(params, places(params), unit, alpha)
        else:
            params = units.null(params, places(params))
    return ravel_pytree(params)[0]


def _splits(
    network: Network,
    kind: str,
    params: Params,
    unit: Int[np.ndarray, " all"],
    shares: Float[np.ndarray, "shares all"],
) -> Float[np.ndarray, "shares all wide"]:
    """Splits at several shares each; one unit per base and draw, the draws varying fastest."""

    @_once
    def all_splits(params: Params, unit: Array, shares: Array) -> Array:
        every = jnp.repeat(jnp.arange(_bases(params)), unit.size // _bases(params))
        one = jax.vmap(lambda params, unit, alpha: pad(network, params, kind, unit, alpha))
        owners = jax.tree.map(lambda leaf: leaf[every], params)
        return jax.vmap(one, in_axes=(None, None, 0))(owners, unit, shares)

    return np.array(all_splits(params, unit, shares))


def _bases(params: Params) -> int:
    return len(jax.tree.leaves(params)[0])


def _first(params: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf[0], params)


def _shares(rng: np.random.Generator, count: int) -> Float[np.ndarray, " count"]:
    """Shares in [-2, 3], at least 0.1 from 0 and 1."""
    inside, low, high = rng.uniform([[0.1], [-2.0], [1.1]], [[0.9], [-0.1], [3.0]], (3, count))
    return np.choose(rng.integers(3, size=count), [inside, low, high])


Coordinates = tuple[Bool[np.ndarray, " wide"], ...]


def _frame(network: Network, params: Params) -> tuple[np.ndarray, dict[str, Coordinates]]:
    """The narrow networks with null units, and for each kind of unit what each coordinate is.

    Those of the narrow network, of a copy's incoming slices, and of its outgoing ones.
    """

    @_once
    def frame(params: Params) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
        ones = jax.tree.map(jnp.ones_like, _first(params))
        split = {
            kind: (pad(network, ones, kind, 0, 0.0), pad(network, ones, kind, 0, 0.5))
            for kind in network.units
        }
        return jax.vmap(lambda each: pad(network, each))(params), pad(network, ones), split

    padded, narrow, split = jax.tree.map(np.array, frame(params))
    present = narrow != 0
    coordinates = {
        kind: (present, (silent != 0) & ~present, (both != 0) & (silent == 0))
        for kind, (silent, both) in split.items()
    }
    return padded, coordinates


def _evaluate(
    network: Network,
    params: Params,
    points: Float[np.ndarray, "points wide"],
    targets: Float[np.ndarray, "points n outputs"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, gradient and Hessian of the wide network at flat parameters."""
    wide = _first(params)
    for places in network.units.values():
        wide = units.null(wide, places(wide))
    _, unravel = ravel_pytree(wide)

    def one(point_and_targets: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        flat, targets = point_and_targets

        def gradient(flat: Float[Array, " wide"]) -> tuple[Array, tuple[Array, Array]]:
            def loss(flat: Float[Array, " wide"]) -> tuple[Array, Array]:
                outputs = network.wide_outputs(unravel(flat))
                return squared_error(outputs, targets), outputs

            slope, outputs = jax.grad(loss, has_aux=True)(flat)
            return slope, (outputs, slope)

        hessian, (outputs, slope) = jax.jacfwd(gradient, has_aux=True)(flat)
        return outputs, slope, hessian

    program = functools.partial(jax.lax.map, one, batch_size=_AT_ONCE)
    found = jax.jit(program, compiler_options=dict(QUICKLY))((points, targets))
    outputs, slope, hessian = map(np.asarray, found)
    return outputs, slope, hessian


def _block(hessians: Float[np.ndarray, "*batch wide wide"], kept: Bool[np.ndarray, " wide"]):
    places = np.flatnonzero(kept)
    return hessians[..., places[:, None], places]


def _unit_block(
    one: Float[np.ndarray, "*batch wide wide"],
    minus_one: Float[np.ndarray, "*batch wide wide"],
    inward: Bool[np.ndarray, " wide"],
    outward: Bool[np.ndarray, " wide"],
) -> Float[np.ndarray, "*batch unit unit"]:
    """M: at share α the copy's own Hessian is α S + α² G inward, and C + α G' across."""
    i, o = np.flatnonzero(inward)[:, None], np.flatnonzero(outward)
    s = (_block(one, inward) - _block(minus_one, inward)) / 2
    c = (one[..., i, o] + minus_one[..., i, o]) / 2
    zeros = np.zeros((*c.shape[:-2], o.size, o.size))
    return np.block([[s, c], [np.swapaxes(c, -1, -2), zeros]])


def _inertia(matrices: Float[np.ndarray, "*batch n n"], rtol: float = RTOL) -> Counts:
    return Counts(*map(np.asarray, _once(inertia)(np.linalg.eigvalsh(matrices), rtol)))


def _sum(one: Counts, other: Counts) -> Counts:
    counts = (a + b for a, b in zip(one[:3], other[:3], strict=True))
    return Counts(*counts, determined=one.determined & other.determined)
