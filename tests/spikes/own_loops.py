"""Training loops as users write them, each without and with the library: a bare pytree and flax.

All train the network tanh(x W + b) w + c by Adam from given weights on one batch, and spike. The
arrays may lie on a mesh of devices. A loop returns its losses, the parameters and the optimizer's
state; a watched one has a pair of loss and curvature for each loss.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from phenodl import guarded, monitor
from phenodl.spikes import control

IMPORTS = 2
WIDTH = 16
HYPER = {"learning_rate": 0.1, "b2": 0.99}
WATCH = {**HYPER, "products": 0}


def weights(seed):
    random = np.random.default_rng(seed)
    kernel = random.standard_normal((1, WIDTH)), random.standard_normal((WIDTH, 1)) / 4
    bias = random.standard_normal(WIDTH), np.zeros(1)
    return {
        name: {"kernel": jnp.asarray(kernel[i], jnp.float32), "bias": jnp.float32(bias[i])}
        for i, name in enumerate(("first", "last"))
    }


def batch():
    inputs = np.linspace(-3, 3, 32, dtype=np.float32)[:, None]
    return jnp.asarray(inputs), jnp.asarray(np.sin(2 * inputs))


def watchful(margin=0.5):
    """The response of the watched loops; an infinite margin only looks."""
    return control.raise_coordinates(margin)


def bare_loss(params, batch):
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ params["first"]["kernel"] + params["first"]["bias"][None])
    outputs = hidden @ params["last"]["kernel"] + params["last"]["bias"][None]
    return ((outputs - targets) ** 2).mean()


def bare_plain(params, batch, steps):
    optimizer = optax.adam(**HYPER)

    @jax.jit
    def train_step(params, state):
        value, grads = jax.value_and_grad(bare_loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(steps):
        params, state, value = train_step(params, state)
        losses.append(value)
    return losses, params, state


def bare_watched(params, batch, steps, response):
    optimizer = guarded(optax.adam(**HYPER), response, **HYPER)

    @jax.jit
    def train_step(params, state):
        value, grads = jax.value_and_grad(bare_loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        report = monitor(bare_loss, params, state, batch, **WATCH)
        return optax.apply_updates(params, updates), state, (value, report.ratio)

    state, losses = optimizer.init(params), []
    for _ in range(steps):
        params, state, value = train_step(params, state)
        losses.append(value)
    return losses, params, state


class Linen(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        hidden = nn.tanh(nn.Dense(WIDTH, name="first")(inputs))
        return nn.Dense(1, name="last")(hidden)


def linen_loss(params, batch):
    inputs, targets = batch
    return ((Linen().apply({"params": params}, inputs) - targets) ** 2).mean()


def linen_plain(params, batch, steps):
    optimizer = optax.adam(**HYPER)

    @jax.jit
    def train_step(params, state):
        value, grads = jax.value_and_grad(linen_loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(steps):
        params, state, value = train_step(params, state)
        losses.append(value)
    return losses, params, state


def linen_watched(params, batch, steps, response):
    optimizer = guarded(optax.adam(**HYPER), response, **HYPER)

    @jax.jit
    def train_step(params, state):
        value, grads = jax.value_and_grad(linen_loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        report = monitor(linen_loss, params, state, batch, **WATCH)
        return optax.apply_updates(params, updates), state, (value, report.ratio)

    state, losses = optimizer.init(params), []
    for _ in range(steps):
        params, state, value = train_step(params, state)
        losses.append(value)
    return losses, params, state


class Nnx(nnx.Module):
    def __init__(self, params):
        self.first = nnx.Linear(1, WIDTH, rngs=nnx.Rngs(0))
        self.last = nnx.Linear(WIDTH, 1, rngs=nnx.Rngs(0))
        nnx.update(self, params)

    def __call__(self, inputs):
        return self.last(jnp.tanh(self.first(inputs)))


def nnx_loss(model, batch):
    inputs, targets = batch
    return ((model(inputs) - targets) ** 2).mean()


def nnx_plain(params, batch, steps):
    adam = optax.adam(**HYPER)
    model = Nnx(params)
    trainer = nnx.Optimizer(model, adam, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, trainer):
        value, grads = nnx.value_and_grad(nnx_loss)(model, batch)
        trainer.update(model, grads)
        return value

    losses = [train_step(model, trainer) for _ in range(steps)]
    return losses, nnx.as_pure(nnx.state(model)), nnx.as_pure(trainer.opt_state)


def nnx_watched(params, batch, steps, response):
    adam = guarded(optax.adam(**HYPER), response, **HYPER)
    model = Nnx(params)
    trainer = nnx.Optimizer(model, adam, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, trainer):
        graph, params = nnx.split(model)
        value, grads = nnx.value_and_grad(nnx_loss)(model, batch)
        trainer.update(model, grads)
        loss = lambda params, batch: nnx_loss(nnx.merge(graph, params), batch)
        report = monitor(loss, nnx.as_pure(params), nnx.as_pure(trainer.opt_state), batch, **WATCH)
        return value, report.ratio

    losses = [train_step(model, trainer) for _ in range(steps)]
    return losses, nnx.as_pure(nnx.state(model)), nnx.as_pure(trainer.opt_state)


PLAIN = {"bare": bare_plain, "linen": linen_plain, "nnx": nnx_plain}
WATCHED = {"bare": bare_watched, "linen": linen_watched, "nnx": nnx_watched}
