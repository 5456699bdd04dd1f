"""A fully connected tanh network in NumPy: its loss, its Hessian, and critical points of it.

The gradient is backpropagation written out; Jacobian and Hessian are complex-step derivatives,
exact to rounding. Nothing here uses JAX or the code under test. Parameters are the pytree of
``phenodl.models.mlp``, as NumPy arrays.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.linalg import null_space


class CriticalPoint(NamedTuple):
    params: dict
    inputs: np.ndarray  # (features, n)
    targets: np.ndarray  # (outputs, n)


def forward(params, inputs):
    """The activations of all layers, from the data (features, n) to the outputs."""
    signals = [np.asarray(inputs)]
    for number in range(len(params)):
        layer = params[f"layer_{number}"]
        z = layer["weight"] @ signals[-1] + layer.get("bias", np.zeros(1))[:, None]
        signals.append(z if number == len(params) - 1 else np.tanh(z))
    return signals


def loss(params, inputs, targets):
    """Mean squared error."""
    return np.mean((forward(params, inputs)[-1] - targets) ** 2)


def gradient(params, inputs, targets):
    """A pytree like the parameters."""
    signals = forward(params, inputs)
    error = 2 * (signals[-1] - targets) / targets.size
    grads = {}
    for number in reversed(range(len(params))):
        layer = params[f"layer_{number}"]
        parts = {"weight": error @ signals[number].T, "bias": error.sum(1)}
        grads[f"layer_{number}"] = {name: parts[name] for name in layer}
        error = (layer["weight"].T @ error) * (1 - signals[number] ** 2)
    return grads


def ravel(params):
    return np.concatenate([params[name][entry].ravel() for name, entry in _entries(params)])


def unravel(flat, like):
    params, start = {name: {} for name in like}, 0
    for name, entry in _entries(like):
        shape = like[name][entry].shape
        size = int(np.prod(shape))
        params[name][entry] = flat[start : start + size].reshape(shape)
        start += size
    return params


def hessian(params, inputs, targets):
    matrix = _derivative(lambda point: ravel(gradient(point, inputs, targets)), params)
    return (matrix + matrix.T) / 2


def inertia(matrix, rtol=1e-12):
    """The numbers of negative, zero and positive eigenvalues, and the widest gap between them.

    The gap is the smallest non-zero over the largest zero, in absolute value.
    """
    values = np.linalg.eigvalsh(matrix)
    size = np.abs(values)
    zero = size <= rtol * size.max()
    gap = size[~zero].min() / max(size[zero].max(initial=0), 1e-30)
    return np.array([np.sum(values[~zero] < 0), np.sum(zero), np.sum(values[~zero] > 0)]), gap


def critical_point(widths, n, residual, seed, bias=True):
    """A critical point by construction, of mean squared loss ``residual``².

    The parameters and inputs are random, and the targets are the outputs plus a random residual
    that no direction of the parameters can reduce, one in the null space of the transposed
    Jacobian.
    A small one gives a minimum, a large one a saddle, at almost all seeds non-degenerate.
    """
    rng = np.random.default_rng(seed)
    params = {
        f"layer_{number}": {
            "weight": rng.normal(size=(fan_out, fan_in)),
            **({"bias": rng.normal(size=fan_out)} if bias else {}),
        }
        for number, (fan_in, fan_out) in enumerate(pairwise(widths))
    }
    inputs = 2 * rng.normal(size=(widths[0], n))
    outputs = forward(params, inputs)[-1]
    unreachable = null_space(_derivative(lambda at: forward(at, inputs)[-1].ravel(), params))
    direction = unreachable @ rng.normal(size=unreachable.shape[1])
    scaled = residual * direction / np.sqrt(np.mean(direction**2))
    return CriticalPoint(params, inputs, outputs + scaled.reshape(outputs.shape))


def _derivative(function, params, step=1e-30):
    """Row i: the derivative of a vector of functions by parameter i."""
    flat = ravel(params)
    directions = 1j * step * np.eye(flat.size)
    return np.stack([function(unravel(flat + d, params)).imag / step for d in directions])


def _entries(params):
    return [(name, entry) for name in sorted(params) for entry in sorted(params[name])]
