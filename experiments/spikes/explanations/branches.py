"""Runs that leave their control where the growth towards a spike begins."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from phenodl.optim import interventions
from phenodl.sweep import Runs

ARMS = ("control", "frozen", "decaying")
"""Adam; D kept from the trough on; v <- β2 v from there on, without any gradient."""


def branched(runs: Runs, trough: Int[np.ndarray, " seed"]) -> Runs:
    """The runs with the interventions of their arms, D being kept as at the trough.

    Args:
        runs: along the axes ``arm`` (the places in ARMS) and ``seed``.
        trough: where each seed branches; negative for a seed that does not.
    """
    arm, seed = (place.ravel() for place in np.indices([len(runs.axes[a]) for a in runs.axes]))
    steps = np.where((trough[seed] >= 0) & (arm > 0), trough[seed] + 1.0, interventions.NEVER)
    values = {"switch_step": steps, "frozen": arm == 1, "decaying": arm == 2}
    dtype = jnp.zeros(()).dtype
    added = {name: jnp.asarray(value, dtype) for name, value in values.items()}
    return runs._replace(hyper=runs.hyper | added)
