"""Small problems that several tests train."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from phenodl import training
from phenodl.protocol import Problem

adam = training.from_optax(
    lambda hyper: optax.adam(hyper["learning_rate"], b1=0.9, b2=hyper["b2"], eps=1e-8)
)
gradient_descent = training.from_optax(lambda hyper: optax.sgd(hyper["learning_rate"]))

quadratic = Problem(
    init=lambda key, data, hyper: jnp.ones(()),
    loss=lambda theta, batch: 0.5 * theta**2,
)
"""1/2 θ² from θ = 1: under gradient descent θ_t = (1 - η)^t."""


def sine_network() -> Problem:
    """A 1-8-1 tanh network on sin x + sin 4x: at η = .03, β2 = .99 Adam's loss spikes."""
    x = np.linspace(-np.pi, np.pi, 32, dtype=np.float32)

    def init(key, data, hyper):
        return jax.random.uniform(key, (25,), jnp.float32, -1.0, 1.0)

    def loss(theta, batch):
        hidden = jnp.tanh(theta[:8, None] * batch["x"][None] + theta[8:16, None])
        return jnp.mean((theta[16:24] @ hidden + theta[24] - batch["y"]) ** 2)

    return Problem(init, loss, data={"x": x, "y": np.sin(x) + np.sin(4 * x)})
