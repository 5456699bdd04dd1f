"""How flat an embedded critical point is: the Hessian on the directions that an embedding adds.

The directions of a wide network at an embedded point fall into two sets without a mixed second
derivative. One moves all copies of a unit together, and the narrow Hessian is seen on it; the other
is new. By Sylvester's law the inertia of the wide Hessian is therefore that of the narrow one plus
that of the *transverse* Hessian of this module, exactly and at any depth. It has the form
[[Q, C], [C', 0]]: input weights against output weights of the new unit. Its zero eigenvalues are
the new flat directions, its negative ones make a minimum a strict saddle (EP-h, arXiv 2111.15527).
"""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from phenodl.embedding.networks import (
    Activation,
    OutputLoss,
    Params,
    errors,
    layer_inputs,
    preactivations,
    require_hidden,
    require_wider,
    widths,
)


def split_hessian(
    params: Params,
    layer: int,
    unit: int | Int[Array, ""],
    alpha: float | Float[Array, ""],
    inputs: Float[Array, "features n"],
    activation: Activation,
    loss: OutputLoss,
) -> Float[Array, "new new"]:
    """The Hessian across a split, by differences between the unit and its copy.

    With x the inputs of the layer (and 1 for the bias), z the unit's pre-activation, a its output
    weights and e the errors of the next layer, summed over the data: Q = alpha (1 - alpha)
    sum (a.e) s''(z) x x' and C = sum s'(z) x e'. At a critical point C a = 0.

    The matrix can be zero but for rounding, so count its eigenvalues at the scale of the narrow
    Hessian, ``inertia(eigenvalues, scale=largest)``.

    Args:
        params: of the narrow network, at a critical point.
        layer: number of the hidden layer.
        unit: number of the unit that is split.
        alpha: of the split.
        inputs: one column per data point.
        activation: s, elementwise.
        loss: as a function of the outputs.

    Returns:
        A matrix over the unit's input weights, its bias if it has one, and its output weights.

    Raises:
        ValueError: these are not the parameters of a fully connected network, or it has no such
            hidden unit.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((1, 1))},
        ...           "layer_1": {"weight": jnp.ones((1, 1))}}
        >>> loss = lambda outputs: ((outputs - 3.0) ** 2).sum()
        >>> split_hessian(params, 0, 0, 0.5, jnp.ones((1, 2)), jnp.square, loss).tolist()
        [[-4.0, -16.0], [-16.0, 0.0]]
    """
    require_hidden(params, layer, unit)
    x, e = _signals(params, layer, inputs, activation, loss)
    slope, bend = _derivatives(activation, preactivations(params, layer, inputs, activation)[unit])
    weight = bend * jnp.matmul(params[f"layer_{layer + 1}"]["weight"][:, unit], e)
    alpha = jnp.asarray(alpha, x.dtype)
    return _bordered(alpha * (1 - alpha) * jnp.matmul(x * weight[None], x.T), x * slope[None], e)


def null_hessian(
    params: Params,
    layer: int,
    bias: float | Float[Array, ""],
    inputs: Float[Array, "features n"],
    activation: Activation,
    loss: OutputLoss,
) -> Float[Array, "new new"]:
    """The Hessian on the weights of a null unit: Q = 0 and C = s'(bias) sum x e'.

    It has as many negative as positive eigenvalues, rank(C) each; unless C is zero, the null
    embedding of a minimum is a strict saddle. Of what scale, see :func:`split_hessian`.

    Args:
        params: of the narrow network, at a critical point.
        layer: number of the hidden layer to which the unit is added.
        bias: of the null unit.
        inputs: one column per data point.
        activation: s, elementwise.
        loss: as a function of the outputs.

    Returns:
        A matrix over the unit's input weights, its bias if it has one, and its output weights.

    Raises:
        ValueError: these are not the parameters of a fully connected network, or it has no such
            hidden layer.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((1, 1))},
        ...           "layer_1": {"weight": jnp.ones((1, 1))}}
        >>> loss = lambda outputs: ((outputs - 3.0) ** 2).sum()
        >>> activation = lambda z: z + z**2
        >>> null_hessian(params, 0, 0.0, jnp.ones((1, 2)), activation, loss).tolist()
        [[0.0, -4.0], [-4.0, 0.0]]
    """
    require_hidden(params, layer)
    x, e = _signals(params, layer, inputs, activation, loss)
    slope, _ = _derivatives(activation, jnp.asarray(bias, x.dtype))
    return _bordered(jnp.zeros((len(x), len(x)), x.dtype), x * slope, e)


def split_zeros(params: Params, layer: int, alpha: float | Float[Array, ""]) -> Int[Array, ""]:
    """How many zero eigenvalues a split adds at a generic point, for a curved activation.

    One, along alpha, unless the next layer has more units than the split one takes signals (its
    bias counted) and one. More at alpha 0 or 1, where one of the two copies has no output weights:
    Q vanishes, and C, whose rank is at most the units of the next layer less one, remains. Without
    curvature, s'' = 0 as of ReLU, Q vanishes at every alpha: as many as at alpha 0 are added.

    Args:
        params: of the narrow network.
        layer: number of the hidden layer.
        alpha: of the split; 0, whatever it is, if the activation is piecewise linear.

    Raises:
        ValueError: as :func:`split_hessian`.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((3, 2)), "bias": jnp.ones(3)},
        ...           "layer_1": {"weight": jnp.ones((2, 3)), "bias": jnp.ones(2)}}
        >>> [int(split_zeros(params, 0, alpha)) for alpha in (0.3, 1.0)]
        [1, 3]
    """
    fan_in, fan_out, rank = _generic_rank(params, layer)
    alpha = jnp.asarray(alpha)
    return jnp.where(alpha * (1 - alpha) == 0, fan_in + fan_out - 2 * rank, fan_out - rank)


def compatible_zeros(params: Params, hidden: Sequence[int]) -> int:
    """How many zeros a general compatible embedding adds at a generic point, activation curved.

    The dimension of the set of such embeddings (EP-h, arXiv 2111.15527): one for the share of each
    new unit, and (k_s - 1)(k_t - 1) for each pair of units of adjacent hidden layers that have k_s
    and k_t copies. Summed over the pairs this is the product of the numbers of new units of the
    two layers, whatever they copy. Where a split adds more than one, so does each new unit. For a
    piecewise linear activation (see :func:`split_zeros`) this is a lower bound only.

    Args:
        params: of the narrow network.
        hidden: units of each hidden layer of the wide one.

    Raises:
        ValueError: these are not the parameters of a fully connected network, or ``hidden`` is
            narrower than it or of another depth.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((2, 1))},
        ...           "layer_1": {"weight": jnp.ones((1, 2))},
        ...           "layer_2": {"weight": jnp.ones((1, 1))}}
        >>> compatible_zeros(params, [4, 2])
        5
    """
    narrow = require_wider(params, hidden)
    new = [many - few for few, many in zip(narrow, hidden, strict=True)]
    flat = 0
    for layer, number in enumerate(new):
        _, fan_out, rank = _generic_rank(params, layer)
        flat += number * (fan_out - rank)
    return flat + sum(below * above for below, above in pairwise(new))


def null_zeros(
    params: Params,
    layer: int,
    bias: float | Float[Array, ""],
    inputs: Float[Array, "features n"],
    activation: Activation,
    loss: OutputLoss,
    *,
    rtol: float = 1e-10,
) -> Int[Array, ""]:
    """How many zero eigenvalues a null unit adds: fan-in + 1 + fan-out - 2 rank(C).

    C = s'(bias) sum x e' has the rank of sum x e', unless s'(bias) = 0 as for ReLU at a negative
    bias, where it is zero. The 1 is for the unit's bias, if it has one.

    Args:
        params: of the narrow network, at a critical point.
        layer: number of the hidden layer to which the unit is added.
        bias: of the null unit.
        inputs: one column per data point.
        activation: elementwise.
        loss: as a function of the outputs.
        rtol: singular values below this share of sum |e| |x| count as zero.

    Raises:
        ValueError: as :func:`null_hessian`.

    Example:
        >>> params = {"layer_0": {"weight": jnp.ones((1, 1))},
        ...           "layer_1": {"weight": jnp.ones((1, 1))}}
        >>> loss = lambda outputs: ((outputs - 3.0) ** 2).sum()
        >>> int(null_zeros(params, 0, 0.0, jnp.ones((1, 2)), jnp.sin, loss, rtol=1e-5))
        0
    """
    transverse = null_hessian(params, layer, bias, inputs, activation, loss)
    x, e = _signals(params, layer, inputs, activation, loss)
    scale = (jnp.linalg.norm(x, axis=0) * jnp.linalg.norm(e, axis=0)).sum()
    singular = jnp.linalg.svd(transverse[: len(x), len(x) :], compute_uv=False)
    return len(transverse) - 2 * (singular > rtol * scale).sum()


def _generic_rank(params: Params, layer: int) -> tuple[int, int, int]:
    """How many signals and perhaps a bias a unit takes, how many units it feeds, the rank of C.

    The rank is less than the latter, because C vanishes on the unit's output weights.
    """
    require_hidden(params, layer)
    fan_in = widths(params)[layer] + ("bias" in params[f"layer_{layer}"])
    fan_out = widths(params)[layer + 2]
    return fan_in, fan_out, min(fan_in, fan_out - 1)


def _signals(
    params: Params,
    layer: int,
    inputs: Float[Array, "features n"],
    activation: Activation,
    loss: OutputLoss,
) -> tuple[Float[Array, "fan_in n"], Float[Array, "fan_out n"]]:
    """What goes into a hidden layer, with ones if it has biases, and the errors of the next."""
    x = layer_inputs(params, layer, inputs, activation)
    if "bias" in params[f"layer_{layer}"]:
        x = jnp.concatenate([x, jnp.ones_like(x[:1])])
    return x, errors(params, layer + 1, inputs, activation, loss)


def _derivatives(
    activation: Activation, z: Float[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The first and second derivative of an elementwise function."""
    ones = jnp.ones_like(z)

    def slope(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
        return jax.jvp(activation, (z,), (ones,))[1]

    return jax.jvp(slope, (z,), (ones,))


def _bordered(
    q: Float[Array, "fan_in fan_in"], moved: Float[Array, "fan_in n"], e: Float[Array, "fan_out n"]
) -> Float[Array, "new new"]:
    """The matrix [[Q, C], [C', 0]] with C = sum moved e'."""
    c = jnp.matmul(moved, e.T)
    return jnp.block([[q, c], [c.T, jnp.zeros((len(e), len(e)), c.dtype)]])
