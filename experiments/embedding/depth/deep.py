"""Deep networks trained on all flowers, without and with batch normalisation, and their layers."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, Float, Int, Key

from experiments.embedding.depth.config import Config
from experiments.recorder import Recorder
from phenodl import sweep, training
from phenodl.compiler import ONCE
from phenodl.data import tables
from phenodl.embedding.networks import layers, network
from phenodl.embedding.pruning import layer_linearization, prune
from phenodl.models import mlp
from phenodl.models.mlp import Params
from phenodl.protocol import Data, Hyper, Layout, Probe, Problem, View

Scaled = dict[str, Any]
"""``network``, as of :mod:`phenodl.models.mlp`, and ``scales``, one array per hidden layer."""

WIDTHS = (3, 8, 8, 8, 8, 1)
HIDDEN = len(WIDTHS) - 2
_NAME = "deep-networks"
_VARIANCE_FLOOR = 1e-5  # added to the variance in batch normalisation, as is usual


class Deep(NamedTuple):
    """What was measured at the ends of the trainings; axes: normalised or not, seed.

    Attributes:
        loss: of the network.
        departure: of each hidden layer from an affine map.
        merged_loss: with each hidden layer alone merged into the next.
        removed: hidden layers that pruning takes out.
        pruned_loss: without them.
    """

    loss: Float[np.ndarray, "2 seeds"]
    departure: Float[np.ndarray, "2 seeds layers"]
    merged_loss: Float[np.ndarray, "2 seeds layers"]
    removed: Int[np.ndarray, "2 seeds"]
    pruned_loss: Float[np.ndarray, "2 seeds"]


def train(config: Config, recorder: Recorder) -> None:
    """Both kinds of networks from the same starts, in one training."""
    adam = config.optimizer
    starts = _starts(config)
    both = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), starts)
    normalised = np.repeat([0.0, 1.0], config.deep_seeds)
    runs = sweep.product(
        key=jax.random.key(config.seed),
        instance={"start": both, "normalised": normalised},
        learning_rate=adam.learning_rate,
    )
    method = training.from_optax(
        lambda hyper: optax.adam(hyper["learning_rate"], b1=adam.b1, b2=adam.b2, eps=adam.eps)
    )
    recorder.train(
        _NAME,
        problem(),
        method,
        runs,
        steps=config.deep_steps,
        chunk=config.deep_steps,
        probes=(Probe(_measure, emit="end"),),
        layout=Layout(compiler_options=ONCE),
    )


def measure(config: Config, results: Mapping[str, xr.Dataset]) -> Deep:
    """How affine the layers are, and what merging them costs."""
    trained = results[_NAME]
    params = {
        layer: {entry: _by_kind(trained[f"{layer}_{entry}"].values) for entry in entries}
        for layer, entries in _starts(config)["network"].items()
    }
    inputs, targets = tables.iris()
    data = jnp.asarray(inputs.T), jnp.asarray(targets.T)
    one = functools.partial(_layers, *data)
    values = jax.jit(jax.vmap(jax.vmap(one)), compiler_options=dict(ONCE))(params)
    loss, departure, merged_loss = (np.asarray(each) for each in values)
    removed, pruned_loss = np.empty((2, config.deep_seeds), int), np.empty((2, config.deep_seeds))
    for run in np.ndindex(removed.shape):
        trained_run = jax.tree.map(lambda leaf, run=run: leaf[run], params)
        pruned = prune(trained_run, data[0], mlp.tanh, tolerance=config.tolerance)
        removed[run], pruned_loss[run] = len(trained_run) - len(pruned), _loss(pruned, *data)
    return Deep(loss, departure, merged_loss, removed, pruned_loss)


def problem() -> Problem:
    """A tanh network whose layers may be normalised, with a learned scale and shift."""
    inputs, targets = tables.iris()

    def init(key: Key[Array, ""], data: Data, hyper: Hyper) -> Scaled:
        del key, hyper
        return data["start"]

    def loss(params: Scaled, batch: Data) -> Float[Array, ""]:
        outputs, _ = forward(params, batch["inputs"], batch["normalised"])
        return jnp.mean((outputs - batch["targets"]) ** 2)

    return Problem(init, loss, data={"inputs": inputs.T, "targets": targets.T})


def forward(
    params: Scaled, inputs: Float[Array, "features n"], normalised: Float[Array, ""]
) -> tuple[Float[Array, "outputs n"], Params]:
    """The outputs, and the plain network that computes the same on these data.

    A normalised layer computes s (z - mean z) / std z + bias from z = W h, which is affine in h as
    long as mean and deviation are those of the data at hand.
    """
    *hidden, last = layers(params["network"])
    plain, signal = [], inputs
    for layer, scale in zip(hidden, params["scales"], strict=True):
        z = layer["weight"] @ signal
        gain = scale / jnp.sqrt(z.var(1) + _VARIANCE_FLOOR)
        gain = jnp.where(normalised > 0, gain, 1.0)
        bias = layer["bias"] - gain * normalised * z.mean(1)
        plain.append({"weight": gain[:, None] * layer["weight"], "bias": bias})
        signal = mlp.tanh(gain[:, None] * z + bias[:, None])
    outputs = last["weight"] @ signal + last["bias"][:, None]
    return outputs, network([*plain, last])


def _starts(config: Config) -> Scaled:
    """Weights and biases uniform in ±1/sqrt(fan-in), one row per seed, and scales of one."""
    random, rows = np.random.default_rng(config.seed), config.deep_seeds

    def uniform(fan_in: int, *shape: int) -> Float[Array, "..."]:
        return jnp.asarray(random.uniform(-1, 1, (rows, *shape)) / np.sqrt(fan_in))

    fans = itertools.pairwise(WIDTHS)
    drawn = [{"weight": uniform(i, o, i), "bias": uniform(i, o)} for i, o in fans]
    scales = [jnp.ones((rows, width)) for width in WIDTHS[1:-1]]
    return {"network": network(drawn), "scales": scales}


def _by_kind(rows: Float[np.ndarray, "runs ..."]) -> Float[np.ndarray, "2 seeds ..."]:
    return rows.reshape(2, -1, *rows.shape[1:])


def _measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
    """The folded network, entry by entry."""
    _, plain = forward(view.params, view.batch["inputs"], view.batch["normalised"])
    return state, {
        f"{layer}_{entry}": value
        for layer, entries in plain.items()
        for entry, value in entries.items()
    }


@functools.partial(jax.jit, compiler_options=dict(ONCE))
def _loss(
    params: Params, inputs: Float[Array, "features n"], targets: Float[Array, "outputs n"]
) -> Float[Array, ""]:
    return jnp.mean((mlp.apply(params, inputs) - targets) ** 2)


def _layers(
    inputs: Float[Array, "features n"],
    targets: Float[Array, "outputs n"],
    params: Params,
) -> tuple[Array, Array, Array]:
    """The entries of :class:`Deep` for one network, but for those on pruning."""
    fits = [layer_linearization(params, layer, inputs, mlp.tanh) for layer in range(HIDDEN)]
    departure = jnp.stack([fit.departure for fit in fits])

    def loss(merged: Array) -> Float[Array, ""]:
        """With the layers where ``merged`` is true affine, which is what merging them gives."""
        signal = inputs
        for number, layer in enumerate(layers(params)):
            signal = layer["weight"] @ signal + layer["bias"][:, None]
            if number < HIDDEN:
                affine = fits[number].slope[:, None] * signal + fits[number].intercept[:, None]
                signal = jnp.where(merged[number], affine, mlp.tanh(signal))
        return jnp.mean((signal - targets) ** 2)

    alone = jax.vmap(loss)(jnp.eye(HIDDEN, dtype=bool))
    none = jnp.zeros(HIDDEN, bool)
    return loss(none), departure, alone
