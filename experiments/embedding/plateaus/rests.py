"""Where the runs of a training rest, with how many directions, and at which narrow critical point.

A run rests at the plateaus of its curve, and at its end if the gradient has nearly vanished there:
not every embedded critical point is a saddle of the wide network.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from phenodl import plateaus
from phenodl.embedding import catalogue, condensation, reduction
from phenodl.embedding.catalogue import Entry, Match
from phenodl.models import mlp
from phenodl.models.mlp import Params

STATIONARY = 1e-5
"""Gradient norm at the end of a run up to which it rests there."""

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

    def at(self, run: int, record: int) -> Params:
        """The network of one run at one record."""
        return jax.tree.map(lambda leaf: leaf[run, record], self.params)


class Rest(NamedTuple):
    """A place at which a run rests.

    Attributes:
        record: of the history.
        directions: of the condensed units.
        loss: there.
        narrow: the reduction to a network with one unit per direction.
        match: the critical point of so many units whose function is nearest; at a distance of
            ``MISSING`` if none is known.
    """

    record: int
    directions: int
    loss: float
    narrow: Params
    match: Match


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
    """The rests of every run, in the order of time; neighbours with as many directions are one.

    Args:
        history: of the training.
        entries: the catalogue of each target; as many runs in a row belong to each.
        inputs: the data, one column per point.
    """
    places = [_places(history, run) for run in range(len(history.loss))]
    flat = [(run, record) for run, records in enumerate(places) for record in records]
    outputs = iter(_outputs(history, flat, inputs))
    found = []
    for run, records in enumerate(places):
        known = entries[run * len(entries) // len(places)]
        each = [_rest(history, run, record, known, next(outputs)) for record in records]
        kept = plateaus.merge_neighbours(
            history.grad_norm[run, records], [rest.directions for rest in each]
        )
        found.append([each[number] for number in kept])
    return found


def first(found: Sequence[Rest], directions: int) -> Rest | None:
    """The first rest with so many directions, if there is one."""
    return next((rest for rest in found if rest.directions == directions), None)


def gaps(found: Sequence[Sequence[Rest]], directions: int) -> Float[np.ndarray, " runs"]:
    """Per run the distance in loss of its first such rest from the critical point."""
    chosen = [first(each, directions) for each in found]
    return np.array([abs(rest.match.loss_gap) if rest else MISSING for rest in chosen])


def spreads(history: History, found: Sequence[Sequence[Rest]]) -> Float[np.ndarray, " runs"]:
    """Per run, how far the mean |cos| of two units is from 1 at its first rest of one direction."""
    chosen = [first(each, 1) for each in found]
    record = np.array([rest.record if rest else 0 for rest in chosen])
    run = np.arange(len(chosen))
    one = history._replace(
        params=jax.tree.map(lambda leaf: leaf[run, record][:, None], history.params)
    )
    return np.where([rest is not None for rest in chosen], 1 - condensed(one)[:, 0], MISSING)


def condensed(history: History) -> Float[np.ndarray, "runs records"]:
    """How condensed the hidden layer is, the mean |cos| of two units, at every record."""
    return np.asarray(_condensed(history.params))


def _places(history: History, run: int) -> list[int]:
    loss, grad_norm = history.loss[run], history.grad_norm[run]
    places = plateaus.find(grad_norm, loss).index.tolist()
    if grad_norm[-1] <= STATIONARY:
        places.append(len(grad_norm) - 1)
    return places


def _rest(
    history: History, run: int, record: int, known: Sequence[Entry], outputs: np.ndarray
) -> Rest:
    reduced = reduction.reduce(history.at(run, record), mlp.tanh)
    (directions,) = reduced.hidden
    loss = float(history.loss[run, record])
    same = [entry for entry in known if entry.hidden == (directions,)]
    match = catalogue.match(same, loss, outputs) if same else _NO_MATCH
    return Rest(record, directions, loss, reduced.params, match)


def _outputs(
    history: History, places: Sequence[tuple[int, int]], inputs: Float[np.ndarray, "features n"]
) -> Float[np.ndarray, "places outputs n"]:
    run, record = np.array(places, int).reshape(-1, 2).T
    params = jax.tree.map(lambda leaf: leaf[run, record], history.params)
    return np.asarray(_apply(params, inputs))


@jax.jit
@jax.vmap
@jax.vmap
def _condensed(params: Params) -> Float[Array, ""]:
    return condensation.condensation(params, 0, mlp.tanh)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
def _apply(params: Params, inputs: Float[Array, "features n"]) -> Float[Array, "outputs n"]:
    return mlp.apply(params, inputs, mlp.tanh)
