"""Mini-batches of observed entries, as a problem of the engine."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from phenodl.models import factorization
from phenodl.protocol import Data, Problem, View


def problem(share: float) -> Problem:
    """Each observed entry joins the batch of a step with probability ``share``, independently.

    The loss of a batch is divided by ``share``, so that its gradient is right on average; with
    share 1 this is full-batch training. All shares run the same compiled step.
    """
    return _problem()._replace(data={"share": jnp.asarray(share)})


@functools.cache
def _problem() -> Problem:
    def loss(factors: factorization.Factors, batch: Data) -> Float[Array, "*runs"]:
        return factorization.squared_loss(factors, batch) / batch["share"]

    return Problem(factorization.problem().init, loss, _draw)


def _draw(data: Data, key: Key[Array, "*runs"], step: Int[Array, ""]) -> Data:
    """The batch of one run, or of a block of runs with a key each."""
    del step
    observed = data["mask"]

    def uniform(key: Key[Array, ""]) -> Float[Array, "rows columns"]:
        return jax.random.uniform(key, observed.shape[:2], jnp.float32)

    numbers = uniform(key) if key.ndim == 0 else jax.vmap(uniform, out_axes=-1)(key)
    chosen = numbers < data["share"].astype(jnp.float32)
    return {**data, "mask": observed & chosen, "observed": observed}


def mean_loss(view: View) -> Float[Array, "*runs"]:
    """The loss per observed entry, over all of them, whatever the batch of the step."""
    observed = view.batch["observed"]
    everything = {"target": view.batch["target"], "mask": observed}
    return factorization.mean_loss(factorization.squared_loss(view.params, everything), observed)
