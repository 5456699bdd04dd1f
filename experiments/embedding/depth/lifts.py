"""Every shallow point lifted by one layer after the other, and what that changes."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.embedding.depth import bases
from experiments.embedding.depth.bases import ACTIVATIONS, Instances, activation
from experiments.embedding.depth.config import Config
from phenodl.compiler import ONCE
from phenodl.embedding.affine import AffineInterval, distance_to_kinks
from phenodl.embedding.critical import CriticalPoints
from phenodl.embedding.depth import approximate_lift, lift
from phenodl.embedding.inertia import Inertia, inertia, spectrum
from phenodl.embedding.networks import preactivations
from phenodl.models import mlp
from phenodl.models.mlp import Params
from phenodl.protocol import Data

PLACES = (0, 2, 1)
"""The layers that are replaced by two: first, then also the last, then also one between them."""

_POSITIVE = AffineInterval(0.0, math.inf)
_FITTING = 0.999  # of the targets' variance, which a constant leaves as loss
_TANH = list(ACTIVATIONS).index("tanh")


class Points(NamedTuple):
    """Critical points of several instances, one row each.

    Attributes:
        params: of the shallow networks.
        data: of the instances: ``inputs``, ``targets`` and ``kind``.
        subset: the flowers that they belong to.
    """

    params: Params
    data: dict[str, np.ndarray]
    subset: Int[np.ndarray, " points"]


class Lifted(NamedTuple):
    """What was measured at each point, and after lifts by 1, 2, 3 layers.

    Attributes:
        output_error: largest change of an output on the data.
        grad_norm: of the shallow network, and of the deeper ones.
        eigenvalues: of the Hessians, ascending; per number of layers lifted, from 0.
        inertia: the counts of their signs, per number of layers.
    """

    output_error: Float[np.ndarray, "points lifts"]
    grad_norm: Float[np.ndarray, "points lifts_and_none"]
    eigenvalues: tuple[Float[np.ndarray, "points parameters"], ...]
    inertia: tuple[Inertia, ...]

    @property
    def unchanged(self) -> Bool[np.ndarray, "points lifts"]:
        """Whether the inertia changed by (0, P' - P, 0) exactly."""
        before, added = self.inertia[0], self.eigenvalues[0].shape[1]
        rows = [
            (after.negative == before.negative)
            & (after.positive == before.positive)
            & (after.zero - before.zero == values.shape[1] - added)
            for after, values in zip(self.inertia[1:], self.eigenvalues[1:], strict=True)
        ]
        return np.stack(rows, axis=1)

    @property
    def determined(self) -> Bool[np.ndarray, "points lifts"]:
        """Whether zero eigenvalues were clearly apart from the others, before and after."""
        first, *others = (each.determined for each in self.inertia)
        return np.stack([first & other for other in others], axis=1)


class Approximate(NamedTuple):
    """Errors of approximate lifts by one layer, over ε."""

    output_error: Float[np.ndarray, "points eps"]
    grad_norm: Float[np.ndarray, "points eps"]


def smooth_points(config: Config, family: Instances, points: CriticalPoints) -> Points:
    """Accepted points of ELU and leaky ReLU networks that are clear of kinks, each once."""
    accepted = _distinct(points, family.kind != _TANH)
    found = _rows(family, points, accepted)
    clear = np.asarray(_kink_distance(found.params, found.data["inputs"])) >= config.kink_distance
    return jax.tree.map(lambda leaf: leaf[clear], found)


def tanh_points(family: Instances, points: CriticalPoints) -> Points:
    """Accepted points of tanh networks, each once, but for those whose outputs do not vary."""
    fitting = points.loss < _FITTING * family.targets.var(axis=(1, 2))[:, None, None]
    return _rows(family, points, _distinct(points, family.kind == _TANH) & fitting)


def lift_all(config: Config, points: Points) -> Lifted:
    """Lifts all points of ELU and leaky ReLU networks by one to three layers."""
    keys = jax.random.split(jax.random.key(config.seed), len(points.subset))
    error, grad_norm, eigenvalues = jax.tree.map(
        np.asarray, _lift_each(keys, points.params, points.data)
    )
    counts = tuple(jax.tree.map(np.asarray, inertia(values)) for values in eigenvalues)
    return Lifted(error, grad_norm, tuple(eigenvalues), counts)


def lift_nearly(config: Config, points: Points) -> Approximate:
    """Lifts all points of tanh networks approximately, by one layer before the last."""
    keys = jax.random.split(jax.random.key(config.seed), len(points.subset))
    data = {name: points.data[name] for name in ("inputs", "targets")}
    errors = _lift_nearly_each(keys, points.params, data, np.asarray(config.eps))
    return Approximate(*(np.asarray(each) for each in errors))


def slopes(
    eps: Float[np.ndarray, " eps"], errors: Float[np.ndarray, "points eps"]
) -> Float[np.ndarray, " points"]:
    """Of each point's error over ε, both as logarithms."""
    return np.polyfit(np.log(eps), np.log(errors).T, 1)[0]


@functools.partial(jax.jit, compiler_options=dict(ONCE))
@jax.vmap
def _lift_each(key: Key[Array, ""], params: Params, data: Data) -> tuple:
    own = activation(data["kind"])

    def loss(params: Params) -> Float[Array, ""]:
        return bases.loss(params, data)

    shallow = mlp.apply(params, data["inputs"], own)
    errors, grad_norms, spectra = [], [_grad_norm(loss, params)], [spectrum(loss, params)]
    for key_lift, place in zip(jax.random.split(key, len(PLACES)), PLACES, strict=True):
        params = lift(params, place, data["inputs"], own, key=key_lift, interval=_POSITIVE)
        errors.append(jnp.abs(mlp.apply(params, data["inputs"], own) - shallow).max())
        grad_norms.append(_grad_norm(loss, params))
        spectra.append(spectrum(loss, params))
    return jnp.stack(errors), jnp.stack(grad_norms), spectra


@functools.partial(jax.jit, compiler_options=dict(ONCE))
@functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
def _lift_nearly_each(
    key: Key[Array, ""], params: Params, data: Data, eps: Float[Array, " eps"]
) -> tuple[Float[Array, " eps"], Float[Array, " eps"]]:
    shallow = mlp.apply(params, data["inputs"])

    def loss(params: Params) -> Float[Array, ""]:
        return jnp.mean((mlp.apply(params, data["inputs"]) - data["targets"]) ** 2)

    @jax.vmap
    def errors(eps: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        deeper = approximate_lift(params, 1, mlp.tanh, eps, key=key)
        change = mlp.apply(deeper, data["inputs"]) - shallow
        return jnp.abs(change).max(), _grad_norm(loss, deeper)

    return errors(eps)


@jax.jit
@jax.vmap
def _kink_distance(params: Params, inputs: Float[Array, "features n"]) -> Float[Array, ""]:
    return distance_to_kinks(preactivations(params, 0, inputs, jax.nn.elu), jax.nn.elu)


def _grad_norm(loss, params: Params) -> Float[Array, ""]:
    return jnp.linalg.norm(ravel_pytree(jax.grad(loss)(params))[0])


def _distinct(points: CriticalPoints, wanted: Bool[np.ndarray, " instances"]) -> np.ndarray:
    """Accepted points of the wanted instances, of those of equal loss and norm the first."""
    chosen = np.zeros_like(points.accepted)
    for row in np.flatnonzero(wanted):
        places = np.argwhere(points.accepted[row])
        marks = np.stack([points.loss[row], points.norm[row]], -1)[points.accepted[row]]
        _, first = np.unique(marks.round(8), axis=0, return_index=True)
        chosen[row][tuple(places[first].T)] = True
    return chosen


def _rows(family: Instances, points: CriticalPoints, chosen: np.ndarray) -> Points:
    rows = np.nonzero(chosen)[0]
    if rows.size == 0:
        raise ValueError(f"starts must be more than {points.loss.shape[1]}: none was accepted")
    subsets = len(family.kind) // len(ACTIVATIONS)
    data = {name: values[rows] for name, values in family._asdict().items()}
    return Points(points.take(chosen).params, data, rows % subsets)
