"""Where the runs of a training rest, at which narrow critical points, and how condensed."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from phenodl.compiler import ONCE
from phenodl.embedding import catalogue, condensation, plateaus
from phenodl.embedding.catalogue import Entry, Match
from phenodl.models import mlp
from phenodl.models.mlp import Params

MISSING = 1.0
"""What counts as the distance of a run that has no such rest: the variance of its target."""

_NO_MATCH = Match(-1, MISSING, MISSING)


class History(NamedTuple):
    """A recorded training.

    Attributes:
        step: of each record.
        loss: mean squared error.
        grad_norm: of the whole gradient.
        params: every leaf has the leading axes (runs, records).
    """

    step: Int[np.ndarray, " records"]
    loss: Float[np.ndarray, "runs records"]
    grad_norm: Float[np.ndarray, "runs records"]
    params: Params

    def take(self, runs: slice) -> "History":
        """Some of the runs."""
        params = jax.tree.map(lambda leaf: leaf[runs], self.params)
        return History(self.step, self.loss[runs], self.grad_norm[runs], params)

    def of(self, run: int) -> Params:
        """The networks of one run, every leaf with a leading axis of records."""
        return jax.tree.map(lambda leaf: leaf[run], self.params)


class Rest(NamedTuple):
    """A place at which a run rests, and what is known there.

    Attributes:
        place: the rest, with its reduction to a narrow network.
        match: the critical point of so many units whose function is nearest; at a distance of
            ``MISSING`` if none is known.
    """

    place: plateaus.Rest
    match: Match

    @property
    def units(self) -> int:
        """Of the narrow network."""
        return self.place.reduction.hidden[0]


def read(trained: xr.Dataset) -> History:
    """The history in the results of a training."""
    params: dict[str, dict[str, Any]] = {
        f"layer_{layer}": {kind: trained[f"{kind}_{layer}"].values for kind in ("weight", "bias")}
        for layer in (0, 1)
    }
    (step,) = (name for name in trained.loss.dims if str(name).startswith("step"))
    return History(trained[step].values, trained.loss.values, trained.grad_norm.values, params)


def rests(
    history: History,
    entries: Sequence[Sequence[Entry]],
    inputs: Float[np.ndarray, "features n"],
) -> list[list[Rest]]:
    """The rests of every run, in the order of time.

    Args:
        history: of the training.
        entries: the catalogue of each target; as many runs in a row belong to each.
        inputs: the data, one column per point.
    """
    found = []
    for run, (norm, loss) in enumerate(zip(history.grad_norm, history.loss, strict=True)):
        places = plateaus.find_rests(norm, loss, history.of(run), jnp.asarray(inputs), mlp.tanh)
        known = entries[run * len(entries) // len(history.loss)]
        found.append([_matched(place, known) for place in places])
    return found


def first(found: Sequence[Rest], units: int) -> Rest | None:
    """The first rest that reduces to so many units, if there is one."""
    return next((rest for rest in found if rest.units == units), None)


def gaps(found: Sequence[Sequence[Rest]], units: int) -> Float[np.ndarray, " runs"]:
    """Per run the distance in loss of its first such rest from the critical point."""
    chosen = [first(each, units) for each in found]
    return np.array([abs(rest.match.loss_gap) if rest else MISSING for rest in chosen])


def spreads(history: History, found: Sequence[Sequence[Rest]]) -> Float[np.ndarray, " runs"]:
    """Per run, how far the mean |cos| of two units is from 1 at its first rest as one unit."""
    chosen = [first(each, 1) for each in found]
    record = np.array([rest.place.index if rest else 0 for rest in chosen])
    run = np.arange(len(chosen))
    one = history._replace(
        params=jax.tree.map(lambda leaf: leaf[run, record][:, None], history.params)
    )
    return np.where([rest is not None for rest in chosen], 1 - condensed(one)[:, 0], MISSING)


def condensed(history: History) -> Float[np.ndarray, "runs records"]:
    """How condensed the hidden layer is, the mean |cos| of two units, at every record."""
    return np.asarray(_condensed(history.params))


def _matched(place: plateaus.Rest, known: Sequence[Entry]) -> Rest:
    same = [entry for entry in known if entry.hidden == place.reduction.hidden]
    match = catalogue.match(same, place.loss, place.outputs) if same else _NO_MATCH
    return Rest(place, match)


@functools.partial(jax.jit, compiler_options=dict(ONCE))
@jax.vmap
@jax.vmap
def _condensed(params: Params) -> Float[Array, ""]:
    return condensation.condensation(params, 0, mlp.tanh)
