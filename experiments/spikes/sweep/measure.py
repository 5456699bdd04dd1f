"""The spike detector as a reducer inside the training loop, and a network of variable size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.spikes.sweep.config import POINTS
from phenodl.data.functions import sine_mixture
from phenodl.models import mlp
from phenodl.protocol import Data, Hyper, Params, Probe, Problem, View
from phenodl.spikes import detect


class Tally(NamedTuple):
    """What the reducer remembers: the detector, spikes so far, the highest, the lowest loss."""

    detector: detect.Detector
    spikes: Int[Array, ""]
    highest: Float[Array, ""]
    lowest: Float[Array, ""]


def spikes_probe(window: int, rise: float) -> Probe:
    """Records ``spikes``, their number, ``highest``, in decades, and ``lowest``, the lowest loss.

    The loss is that of all points also where the training sees some of them.

    Args:
        window: steps over which the detector takes the highest loss, see ``detect.ring_down``.
        rise: decades above the running minimum that make a spike.
    """

    def init(key: Key[Array, ""], params: Params) -> Tally:
        del key
        dtype = jnp.result_type(*jax.tree.leaves(params))
        zero = jnp.zeros((), dtype)
        return Tally(detect.detector(window, dtype), jnp.zeros((), jnp.int32), zero, zero + jnp.inf)

    def measure(state: Tally, view: View) -> tuple[Tally, dict[str, Array]]:
        loss = view.objective.loss
        if "chosen" in view.batch:
            everything = {**view.batch, "chosen": jnp.ones_like(view.batch["chosen"])}
            loss = sized_loss(view.params, everything)
        detector, seen = detect.update(state.detector, detect.log_excess(loss), rise=rise)
        height = jnp.where(seen.triggered | seen.inside | seen.ended, seen.height, 0.0)
        tally = Tally(
            detector,
            state.spikes + seen.triggered.astype(jnp.int32),
            jnp.maximum(state.highest, height),
            jnp.minimum(state.lowest, loss),
        )
        return tally, {name: getattr(tally, name) for name in ("spikes", "highest", "lowest")}

    return Probe(measure, init=init, emit="end")


def sized_problem(width: int) -> Problem:
    """One hidden layer of which a run uses some units, trained on some of the points.

    The data of a run are ``units``, 1 for a unit that it has, and ``batch_size``. All sizes are
    then runs of one compiled program. Units that are left out have no gradient; the batch is drawn
    anew at each step, without replacement.

    Args:
        width: units at most.
    """
    base = mlp.problem(*sine_mixture(POINTS), hidden=[width])

    def start(key: Key[Array, ""], data: Data, hyper: Hyper) -> Params:
        params = base.init(key, data, hyper)
        # Drawn for the whole width, the last layer's bound 1/sqrt(fan-in) is that of `width` units.
        scale = jnp.sqrt(width / jnp.sum(data["units"]))
        last = {name: scale * leaf for name, leaf in params["layer_1"].items()}
        return {**params, "layer_1": last}

    def batch(data: Data, key: Key[Array, ""], step: Int[Array, ""]) -> Data:
        del step
        ranks = jnp.argsort(jax.random.uniform(key, (POINTS,)))
        chosen = (ranks < data["batch_size"]).astype(data["inputs"].dtype)
        return {**data, "chosen": chosen}

    return Problem(start, sized_loss, batch, base.data)


def sized_loss(params: Params, batch: Data) -> Float[Array, ""]:
    """The mean squared error over the chosen points of the network of the units that are there."""
    masked = {**params["layer_1"], "weight": params["layer_1"]["weight"] * batch["units"][None, :]}
    outputs = mlp.apply({**params, "layer_1": masked}, batch["inputs"])
    errors = jnp.sum((outputs - batch["targets"]) ** 2, axis=0)
    return jnp.sum(batch["chosen"] * errors) / jnp.sum(batch["chosen"])


def units(widths: Int[np.ndarray, " size"], width: int) -> Float[np.ndarray, "size width"]:
    """The first units of each size.

    Example:
        >>> units(np.array([1, 3]), 3).tolist()
        [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    return (np.arange(width) < widths[:, None]).astype(np.float32)
