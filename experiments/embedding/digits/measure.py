"""Reductions of the trained networks, and how often they agree with them."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.embedding.digits.config import IMAGES
from phenodl.data.images import digits
from phenodl.embedding.reduction import reduce
from phenodl.models import mlp

ANGLES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3)
"""Of the figure, in radians."""

_INPUT_SCALE = 1 / 8  # an image of 64 standardised pixels then has norm one, as its bias has


class Task(NamedTuple):
    """Inputs (64, 1797) and targets (1, 1797), +1 where the digit is even and -1 where odd."""

    inputs: Float[np.ndarray, "pixels n"]
    targets: Float[np.ndarray, "1 n"]


class Reduced(NamedTuple):
    """What is left of networks after a reduction; all arrays are over runs.

    Attributes:
        units: of the narrow network.
        trained_on: share of equal predictions of wide and narrow on the digits trained on.
        held_out: the same on the others.
        accuracy: of the narrow network on the digits held out.
        loss: of the narrow network on the digits trained on.
    """

    units: Int[np.ndarray, " runs"]
    trained_on: Float[np.ndarray, " runs"]
    held_out: Float[np.ndarray, " runs"]
    accuracy: Float[np.ndarray, " runs"]
    loss: Float[np.ndarray, " runs"]


@functools.cache
def task() -> Task:
    """All digits."""
    images, labels = digits(IMAGES, dtype=np.float64)
    even = 1.0 - 2.0 * (labels.argmax(axis=1) % 2)
    return Task(images.reshape(IMAGES, -1).T * _INPUT_SCALE, even[None])


def run_params(params: mlp.Params, run: int) -> mlp.Params:
    """The parameters of one of many runs."""
    return jax.tree.map(lambda leaf: leaf[run], params)


def by_angle(params: mlp.Params, images: int, angle: float) -> Reduced:
    """Merges all units whose directions differ by at most an angle.

    Args:
        params: of the wide networks, along a leading axis.
        images: number of digits that were trained on.
        angle: in radians.
    """
    runs = range(len(params["layer_0"]["weight"]))
    narrow = [reduce(run_params(params, run), jax.nn.relu, angle=angle) for run in runs]
    return compare(params, [each.params for each in narrow], images)


def random_units(params: mlp.Params, images: int, units: Int[np.ndarray, " runs"]) -> Reduced:
    """Keeps random units, scaled up to the output weight that all had together.

    Args:
        params: of the wide networks, along a leading axis.
        images: number of digits that were trained on.
        units: how many each network keeps.
    """
    narrow = []
    for run, kept in enumerate(units):
        wide = run_params(params, run)
        width = len(wide["layer_0"]["weight"])
        chosen = np.random.default_rng(run).choice(width, kept, replace=False)
        first = {name: leaf[chosen] for name, leaf in wide["layer_0"].items()}
        weight = wide["layer_1"]["weight"][:, chosen] * (width / kept)
        narrow.append({"layer_0": first, "layer_1": {**wide["layer_1"], "weight": weight}})
    return compare(params, narrow, images)


def compare(params: mlp.Params, narrow: list[mlp.Params], images: int) -> Reduced:
    """Wide networks beside their narrow ones."""
    data = task()
    found = []
    for run, small in enumerate(narrow):
        before, after = outputs(run_params(params, run)), outputs(small)
        agree = even(before) == even(after)
        right = even(after) == even(data.targets)
        loss = np.mean((after - data.targets)[:, :images] ** 2)
        units = len(small["layer_0"]["weight"])
        row = (agree[:, :images].mean(), agree[:, images:].mean(), right[:, images:].mean(), loss)
        found.append((units, *row))
    return Reduced(*map(np.asarray, zip(*found, strict=True)))


def outputs(params: mlp.Params) -> Float[np.ndarray, "1 n"]:
    """Of one network on all digits, computed with NumPy: every reduction has another shape."""
    first, last = (
        {name: np.asarray(leaf) for name, leaf in params[name].items()}
        for name in ("layer_0", "layer_1")
    )
    hidden = np.maximum(first["weight"] @ task().inputs + first["bias"][:, None], 0)
    return last["weight"] @ hidden + last["bias"][:, None]


def even(values: Float[np.ndarray, "1 n"]) -> Bool[np.ndarray, "1 n"]:
    """The prediction."""
    return values > 0


def cosines(params: mlp.Params) -> Float[np.ndarray, "units units"]:
    """Cosine similarity of the (input weights, bias) of a network's units."""
    layer = params["layer_0"]
    rows = np.concatenate([layer["weight"], layer["bias"][:, None]], axis=1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T
