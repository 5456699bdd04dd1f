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
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from phenodl.embedding.clusters import DROPPED, Columns, Rows, clusters
from phenodl.embedding.networks import Activation, Params, incoming, layers, network, sizes
from phenodl.embedding.symmetries import is_homogeneous, is_odd, vanishes_at_zero
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
    - Where σ(0) is not 0 a dropped unit of bias b and output weights e gives about e σ(b), which
      joins the bias of the next layer.

    Args:
        params: of the wide network.
        activation: of the hidden layers.
        angle: of the directions of any two units in a cluster, at most, in radians.
        rtol: the smallest units that together have at most this share of the size of their layer,
            see :func:`phenodl.embedding.networks.unit_sizes`, are dropped, ...
        atol: ... and so are those whose sizes add up to this number.

    Raises:
        ValueError: ``params`` are not those of a fully connected network, not finite, or traced;
            ``angle`` is not in [0, pi], ``rtol`` not in [0, 1), or ``atol`` negative; σ(0) is not
            0, and a unit is dropped where the next layer has no bias to make up for it.

    Example:
        >>> params = {"layer_0": {"weight": jnp.array([[2.0], [2.0]]), "bias": jnp.ones(2)},
        ...           "layer_1": {"weight": jnp.array([[1.5, -0.5]])}}
        >>> reduce(params, jnp.tanh).params["layer_1"]["weight"].tolist()
        [[1.0]]
    """
    if not 0 <= angle <= np.pi:
        raise ValueError(f"angle must be in [0, pi], got {angle}")
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol must be in [0, 1), got {rtol}")
    if not atol >= 0:
        raise ValueError(f"atol must be at least 0, got {atol}")
    arrays = _values(params)
    labels = []
    for number, (before, after) in enumerate(itertools.pairwise(arrays)):
        rows, columns = incoming(before), after["weight"].T
        label = clusters(rows, columns, activation, angle=angle, rtol=rtol, atol=atol)
        if not vanishes_at_zero(activation):
            _keep_constants(before, after, label == DROPPED, activation, number)
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
    return output_gap(*(np.asarray(outputs(each, inputs, activation)) for each in (params, other)))


def output_gap(
    left: Float[np.ndarray, "outputs n"], right: Float[np.ndarray, "outputs n"]
) -> float:
    """Root mean square difference of two networks' outputs on the same data.

    Example:
        >>> output_gap(np.zeros((1, 2)), np.array([[1.0, -7.0]]))
        5.0
    """
    return float(np.sqrt(np.mean((left - right) ** 2)))


def _values(params: Params) -> list[dict[str, np.ndarray]]:
    """The layers as NumPy's arrays, which must be finite."""
    values = []
    for number, layer in enumerate(layers(params)):
        if any(isinstance(leaf, Tracer) for leaf in layer.values()):
            raise ValueError(
                "params: expected concrete values, on which the widths of a reduction depend, got "
                "traced ones; call it outside of jit"
            )
        values.append({name: np.asarray(leaf) for name, leaf in layer.items()})
        if not all(np.isfinite(leaf).all() for leaf in values[-1].values()):
            raise ValueError(f"params: expected finite values, got others in layer_{number}")
    return values


def _keep_constants(
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
    dropped: Bool[np.ndarray, " units"],
    activation: Activation,
    number: int,
) -> None:
    """Adds to the next bias what the dropped units of a layer give where its input is 0."""
    bias = before.get("bias", np.zeros_like(before["weight"][:, 0]))
    constants = after["weight"][:, dropped] @ np.asarray(activation(jnp.asarray(bias[dropped])))
    if "bias" in after:
        after["bias"] = after["bias"] + constants
    elif constants.any():
        raise ValueError(
            f"params: expected a bias in layer_{number + 1}, to hold what the small units of "
            f"layer_{number} give, as the activation is not 0 at 0"
        )


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
