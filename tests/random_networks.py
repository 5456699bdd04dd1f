"""Networks that tests start from, made without compiling anything."""

import itertools

import jax.numpy as jnp
import numpy as np


def draw(widths, seed=0):
    """Parameters of :mod:`phenodl.models.mlp`, standard normal, in the default precision."""
    rng = np.random.default_rng(seed)
    dtype = jnp.zeros(()).dtype
    return {
        f"layer_{number}": {
            "weight": jnp.asarray(rng.standard_normal((fan_out, fan_in)).astype(dtype)),
            "bias": jnp.asarray(rng.standard_normal(fan_out).astype(dtype)),
        }
        for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths))
    }
