"""Critical points planted at random networks, by a choice of the data.

A network is critical for the squared loss if its residuals are orthogonal to the derivatives of its
outputs by every parameter. Any network is so for targets that differ from its outputs by such
residuals. They curve the loss as they are large: small ones plant minima, large ones saddles, at
any depth and without a search.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from phenodl.models.mlp import Params

_SPREAD = 1.5  # standard deviation over the data of what units bend: neither linear nor saturated
_SHIFT = 0.5  # and of its mean, over the units


def plant(
    widths: tuple[int, ...],
    inputs: Float[np.ndarray, "features n"],
    residual: Float[np.ndarray, " points"],
    seed: int,
) -> tuple[Params, Float[np.ndarray, "points outputs n"]]:
    """Random tanh networks, and targets for which they are critical.

    In NumPy: what runs for a millisecond is not worth compiling.

    Args:
        widths: of the networks, from inputs to outputs.
        inputs: one column per data point; more outputs in all than parameters.
        residual: root mean square of the residuals, for each point.
        seed: of networks and residuals.

    Returns:
        Parameters with a leading axis over the points, and their targets.

    Raises:
        ValueError: there are not more outputs in all than parameters.
    """
    parameters = sum((fan_in + 1) * width for fan_in, width in pairwise(widths))
    values = widths[-1] * inputs.shape[1]
    if values <= parameters:
        raise ValueError(
            f"inputs: expected more than {parameters} outputs, as many as parameters, got {values}"
        )
    random = np.random.default_rng(seed)
    signals = [np.broadcast_to(inputs, (len(residual), *inputs.shape))]
    weights, biases = [], []
    for number, width in enumerate(widths[1:]):
        weight, bias = _random_layer(signals[-1], width, number < len(widths) - 2, random)
        computed = weight @ signals[-1] + bias[..., None]
        signals.append(np.tanh(computed) if number < len(widths) - 2 else computed)
        weights.append(weight)
        biases.append(bias)
    basis, _ = np.linalg.qr(_jacobian(weights, signals))
    drawn = random.standard_normal((len(residual), values, 1))
    for _ in range(2):  # once more against rounding
        drawn = drawn - basis @ (basis.swapaxes(1, 2) @ drawn)
    drawn *= residual[:, None, None] / np.sqrt((drawn**2).mean(axis=1, keepdims=True))
    params = {
        f"layer_{number}": {"weight": weight, "bias": bias}
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True))
    }
    return params, signals[-1] - drawn.reshape(signals[-1].shape)


def _random_layer(
    signal: Float[np.ndarray, "points fan_in n"],
    width: int,
    hidden: bool,
    random: np.random.Generator,
) -> tuple[Float[np.ndarray, "points width fan_in"], Float[np.ndarray, "points width"]]:
    """Random weights; pre-activations of hidden layers are brought to one spread over the data."""
    weight = random.standard_normal((len(signal), width, signal.shape[1]))
    bias = _SHIFT * random.standard_normal((len(signal), width))
    if not hidden:
        return weight, bias
    drawn = weight @ signal
    scale = _SPREAD / drawn.std(axis=2)
    return weight * scale[..., None], bias - scale * drawn.mean(axis=2)


def _jacobian(
    weights: list[np.ndarray], signals: list[np.ndarray]
) -> Float[np.ndarray, "points values parameters"]:
    """Derivatives of all outputs by all parameters, by backpropagation from each output."""
    points, outputs, n = signals[-1].shape
    sensitivity = np.broadcast_to(np.eye(outputs)[:, :, None], (points, outputs, outputs, n))
    blocks = []
    for weight, signal in zip(reversed(weights), reversed(signals[:-1]), strict=True):
        by_weight = np.einsum("poin,pjn->ponij", sensitivity, signal)
        blocks += [by_weight.reshape(points, outputs * n, -1)]
        blocks += [sensitivity.swapaxes(2, 3).reshape(points, outputs * n, -1)]
        slope = 1 - signal**2  # of tanh, by its value
        sensitivity = np.einsum("poin,pij,pjn->pojn", sensitivity, weight, slope)
    return np.concatenate(blocks, axis=2)
