"""Where the flow goes from an embedded critical point that is displaced within its own manifold.

The flow multiplies W_aug from the left, and so does the displacement, W_aug + δ E W_aug: neither
changes its rank. What starts on Ω_k has to stay on it, what starts outside stays outside.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments.completion.hierarchy.instances import SIDE
from experiments.embedding.factorization.config import Config
from experiments.embedding.factorization.narrow import WIDTHS
from experiments.embedding.factorization.wide import null, split
from experiments.recorder import Recorder
from phenodl import probes, sweep
from phenodl.completion import probes as completion_probes
from phenodl.data.matrices import Instances
from phenodl.models import factorization
from phenodl.models.factorization import Factors
from phenodl.optim import flow

NAME = "departures"
_RECORDS = 400


class Departures(NamedTuple):
    """The flow from every instance's best fit of rank k, embedded with each share alpha.

    Attributes:
        step: of each record of the loss.
        loss: leading axes (widths, kinds, instances): the null embedding first, then the splits.
        stacked: W_aug at the end.
    """

    step: np.ndarray
    loss: Float[np.ndarray, "widths kinds instances records"]
    stacked: Float[np.ndarray, "widths kinds instances rows_and_columns inner"]


def starts(narrow: Factors, alphas: tuple[float, ...]) -> Factors:
    """The null embedding of balanced narrow factors, and their splits.

    Returns:
        Factors with leading axes (kinds, instances).
    """

    @jax.jit
    @functools.partial(jax.vmap, out_axes=1)
    def embed(narrow: Factors) -> Factors:
        splits = jax.vmap(split, in_axes=(None, 0))(narrow, jnp.asarray(alphas))
        first = jax.tree.map(lambda side: side[None], null(narrow))
        return jax.tree.map(lambda *sides: jnp.concatenate(sides), first, splits)

    return embed(narrow)


def train(
    config: Config, family: Instances, balanced: dict[int, Factors], recorder: Recorder
) -> None:
    """Lets the flow go from the displaced embeddings of the best fits of all widths."""
    kinds = [whole(starts(balanced[width], config.alphas)) for width in WIDTHS]
    start = _displaced(np.stack(kinds), config)
    copies = len(WIDTHS) * (1 + len(config.alphas))
    instance: dict[str, Any] = {
        "target": np.tile(family.target, (copies, 1, 1)),
        "mask": np.tile(family.mask, (copies, 1, 1)),
        "start": start,
    }
    recorder.train(
        NAME,
        factorization.problem()._replace(init=factorization.given_start),
        flow.rk4(factorization.safe_step()),
        sweep.product(key=jax.random.key(config.seed), instance=instance),
        steps=config.flow_steps,
        chunk=config.flow_steps,
        probes=(completion_probes.factors(), probes.loss(max(1, config.flow_steps // _RECORDS))),
        layout=factorization.small_layout(),
    )


def read(config: Config, trained: xr.Dataset) -> Departures:
    """What the training has recorded."""
    kinds = 1 + len(config.alphas)
    (step,) = (trained[name].values for name in trained.loss.dims if name.startswith("step"))
    stacked = np.concatenate([trained.A.values, trained.B.values.swapaxes(1, 2)], axis=1)
    shape = (len(WIDTHS), kinds, -1)
    return Departures(
        step,
        trained.loss.values.reshape(*shape, len(step)),
        stacked.reshape(*shape, 2 * SIDE, SIDE),
    )


def whole(start: Factors) -> Float[np.ndarray, "*axes rows_and_columns inner"]:
    """W_aug of many factors."""
    return np.concatenate([start.A, np.swapaxes(start.B, -1, -2)], axis=-2)


def _displaced(
    start: Float[np.ndarray, "widths kinds instances rows_and_columns inner"], config: Config
) -> Factors:
    """All embeddings of an instance with the same displacement; one leading axis."""
    shape = (start.shape[2], 2 * SIDE, 2 * SIDE)
    draws = np.random.default_rng(config.seed).standard_normal(shape)
    moved = start + config.displacement / np.sqrt(2 * SIDE) * draws @ start
    rows = moved.reshape(-1, *moved.shape[3:])
    return Factors(jnp.asarray(rows[:, :SIDE]), jnp.asarray(rows[:, SIDE:].swapaxes(1, 2)))
