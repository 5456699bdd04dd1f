"""From a condensed wide network to the narrow one that it embeds: neurons of one direction are one.

Neurons are clustered by the direction of (input weights, bias). Each cluster becomes one neuron
whose output weights are those of its members added up, as a split shares them out (EP, arXiv
2105.14573); neurons that do nothing, as a null embedding adds them, are dropped. The number of
clusters depends on the parameters, so this is NumPy's, outside of jit.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from phenodl.embedding.clusters import DROPPED, Columns, Rows, clusters
from phenodl.embedding.condensation import incoming, sizes
from phenodl.embedding.networks import Activation, Params, layers, network, require_network
from phenodl.embedding.symmetries import is_homogeneous, is_odd
from phenodl.models import mlp

_ANGLES = np.pi / 2.0 ** np.arange(14)

outputs = jax.jit(mlp.apply, static_argnums=2)


class Reduction(NamedTuple):
    """A narrow network, and which of its units each unit of the wide one went into.

    Attributes:
        params: of the narrow network. A layer of which nothing is left keeps one zero unit.
        labels: per hidden layer, the cluster of each wide unit, or ``DROPPED``. Clusters are
            numbered by size, the largest first.
    """

    params: Params
    labels: tuple[Int[np.ndarray, " units"], ...]

    @property
    def hidden(self) -> tuple[int, ...]:
        """The number of clusters of each hidden layer."""
        return tuple(int(labels.max(initial=DROPPED)) + 1 for labels in self.labels)


def reduce(
    params: Params,
    activation: Activation,
    *,
    angle: float = 0.1,
    rtol: float = 1e-3,
    atol: float = 1e-3,
) -> Reduction:
    """The narrow network of a condensed one.

    Layer by layer, first to last. The units of a cluster (see :func:`clusters`) become one:

    - Its output weights are the sum of theirs, E = sum of e_i.
    - Its input weights and bias are their mean w = sum of p_i w_i, p_i in proportion to the part of
      e_i along E, as far as it is positive. If all e_i point along E, as in a condensed network
      with one output, this makes the sum of e_i σ(w_i x) right to first order in the spread of the
      w_i, which neither a representative of unit norm nor the plain mean does.
    - For a homogeneous activation the members are first brought to their mean norm, at the expense
      of their output weights. That changes nothing, and units of one direction then merge exactly.
    - For an odd one the members are first turned to the side of the cluster's largest, sign and
      output weights together.

    Args:
        params: of the wide network.
        activation: of the hidden layers.
        angle: of the directions of any two units in a cluster, at most, in radians.
        rtol: the smallest units that together have at most this share of the size of their layer,
            see :func:`phenodl.embedding.condensation.unit_sizes`, are dropped, ...
        atol: ... and so are those whose sizes add up to this number.

    Raises:
        ValueError: ``params`` are not those of a fully connected network, or ``angle`` is not in
            [0, pi].

    Example:
        >>> params = {"layer_0": {"weight": jnp.array([[2.0], [2.0]]), "bias": jnp.ones(2)},
        ...           "layer_1": {"weight": jnp.array([[1.5, -0.5]])}}
        >>> reduce(params, jnp.tanh).params["layer_1"]["weight"].tolist()
        [[1.0]]
    """
    require_network(params)
    if not 0 <= angle <= np.pi:
        raise ValueError(f"angle must be in [0, pi], got {angle}")
    arrays = [{name: np.asarray(leaf) for name, leaf in layer.items()} for layer in layers(params)]
    labels = []
    for before, after in itertools.pairwise(arrays):
        rows, columns = incoming(before), after["weight"].T
        label = clusters(rows, columns, activation, angle=angle, rtol=rtol, atol=atol)
        merged = [
            _merge(rows[label == one], columns[label == one], activation)
            for one in range(label.max(initial=DROPPED) + 1)
        ] or [(np.zeros_like(rows[0]), np.zeros_like(columns[0]))]
        inward, outward = (np.stack(side) for side in zip(*merged, strict=True))
        fan_in = before["weight"].shape[1]
        before["weight"] = inward[:, :fan_in]
        if "bias" in before:
            before["bias"] = inward[:, fan_in]
        after["weight"] = outward.T
        labels.append(label)
    narrow = [{name: jnp.asarray(leaf) for name, leaf in layer.items()} for layer in arrays]
    return Reduction(network(narrow), tuple(labels))


def narrowest(
    params: Params,
    inputs: Float[Array, "features n"],
    activation: Activation,
    *,
    tolerance: float = 1e-2,
    rtol: float = 1e-3,
    atol: float = 1e-3,
) -> Reduction:
    """The narrowest reduction that keeps the function, over angles from wide to narrow.

    An angle that suits a network early in its training merges neurons that count as two later on,
    when their weights have grown; the function tells. The angles are pi, pi/2, pi/4, ...

    Args:
        params: of the wide network.
        inputs: the data, one column per data point.
        activation: of the hidden layers.
        tolerance: root mean square by which the outputs may change.
        rtol: as in :func:`reduce`.
        atol: as in :func:`reduce`.

    Returns:
        The first reduction within the tolerance. If none is, that of the smallest angle, which
        :func:`function_gap` tells: neurons that differ in norm alone, and whose activation is not
        homogeneous, are of one direction but not of one function.

    Example:
        >>> layer = {"weight": jnp.array([[2.0], [2.0], [1.0]]), "bias": jnp.array([0.0, 0.0, 1.0])}
        >>> params = {"layer_0": layer, "layer_1": {"weight": jnp.ones((1, 3))}}
        >>> narrowest(params, jnp.linspace(-1.0, 1.0, 9)[None], jnp.tanh).hidden
        (2,)
    """
    reduction, tried = None, set()
    for angle in _ANGLES:
        reduction = reduce(params, activation, angle=angle, rtol=rtol, atol=atol)
        if reduction.hidden in tried:
            continue
        tried.add(reduction.hidden)
        if function_gap(params, reduction.params, inputs, activation) <= tolerance:
            return reduction
    assert reduction is not None
    return reduction


def function_gap(
    params: Params, other: Params, inputs: Float[Array, "features n"], activation: Activation
) -> float:
    """Root mean square difference of the outputs of two networks on the data.

    Example:
        >>> one, other = ({"layer_0": {"weight": jnp.array([[a]])}} for a in (1.0, 3.0))
        >>> function_gap(one, other, jnp.ones((1, 4)), jnp.tanh)
        2.0
    """
    left, right = (np.asarray(outputs(each, inputs, activation)) for each in (params, other))
    return float(np.sqrt(np.mean((left - right) ** 2)))


def _merge(inward: Rows, outward: Columns, activation: Activation) -> tuple[np.ndarray, ...]:
    """The one unit of a cluster: its input weights and bias, and its output weights."""
    size = sizes(inward, outward)
    if is_odd(activation):
        opposite = (inward @ inward[size.argmax()] < 0)[:, None]
        inward, outward = (np.where(opposite, -side, side) for side in (inward, outward))
    if is_homogeneous(activation):
        length = np.linalg.norm(inward, axis=1)
        ratio = (length / (size @ length / size.sum()))[:, None]
        inward, outward = inward / ratio, outward * ratio
    total = outward.sum(0)
    share = np.maximum(outward @ total, 0.0)
    share = share if share.any() else size  # the output weights cancel
    return share @ inward / share.sum(), total
