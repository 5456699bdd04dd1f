"""How fast gradient flow leaves embedded saddles: narrow minima, split until they are saddles.

The best minimum of each staircase, with one unit and with two, becomes a network with three units
by splits, at the unit and the alpha that make its Hessian the most negative.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key, PyTree
from matplotlib.figure import Figure

from experiments.claims import Claim, Target, share_claim
from experiments.embedding.width import searches
from experiments.embedding.width.config import EXPERIMENT, Config
from experiments.errors import UserError
from experiments.recorder import Recorder
from phenodl import plots
from phenodl.compiler import ONCE
from phenodl.embedding import escape, width
from phenodl.embedding.critical import CriticalPoints
from phenodl.embedding.escape import Saddle
from phenodl.models.mlp import Params
from phenodl.protocol import Data

TRAINING = "escapes"
"""The name of the training, in the results."""

WINDOW = (1e-6, 1e-5)
"""Distances from the saddle over which its growth is fitted."""

_WIDTH = 3
_ALPHAS = (-1.0, -0.5, 0.5, 1.5, 2.0)
_STRICT = 2e-4  # |λ_min| over sharpness; flatter saddles take too long to leave
_RANDOM_START = 1e-9  # far enough below the window for the other directions to fall behind
_STEPS = 30_000
_SOURCE = (
    "derived: the flow linearised at a saddle; strict saddles from splits: EP-h (arXiv 2111.15527)"
)


class EmbeddedSaddles(NamedTuple):
    """Strict saddles with three units, stacked: the units they come from, their targets."""

    saddle: Saddle
    units: Int[np.ndarray, " saddles"]
    targets: Float[np.ndarray, "saddles outputs n"]


class Rates(NamedTuple):
    """Of the growth of a displacement, over |λ_min|: started along v_min, and at random."""

    along: Float[np.ndarray, " saddles"]
    random: Float[np.ndarray, " saddles"]


def train_escapes(config: Config, recorder: Recorder, found: Mapping[int, CriticalPoints]) -> None:
    """Gradient flow from next to every saddle, twice: along v_min and in a random direction.

    Args:
        config: of the experiment.
        recorder: that trains.
        found: the critical points of networks with one unit and with two, leading axes staircase,
            seed.
    """
    saddles = embedded_saddles(config, found)
    starts = _starts(saddles.saddle, jax.random.key(config.seed))
    escape.escape(
        searches.staircases(config, 1).problem,
        _twice(saddles.saddle),
        starts,
        data={"targets": _twice(saddles.targets)},
        end=1.1 * WINDOW[1],
        steps=_STEPS,
        every=20,
        name=TRAINING,
        trainer=recorder.train,
    )


def embedded_saddles(config: Config, found: Mapping[int, CriticalPoints]) -> EmbeddedSaddles:
    """The saddles; where no split makes one that is steep enough, a staircase has none.

    Raises:
        UserError: there is none at all.
    """
    rows = [
        (split, units, targets)
        for units, points in found.items()
        for split, targets in _all_splits(config, points, units)
    ]
    splits, units, targets = zip(*rows, strict=True)
    splits = jax.tree.map(lambda *leaves: np.stack(leaves), *splits)  # network, candidate
    base = searches.staircases(config, 1)
    data = {"inputs": base.inputs, "targets": np.stack(targets)}
    candidates = jax.tree.map(np.asarray, _saddles(base.problem.loss, splits, data))
    steepness = -candidates.eigenvalue / candidates.sharpness
    steepest = steepness.argmax(axis=1)
    strict = np.flatnonzero(steepness.max(axis=1) >= _STRICT)
    if not strict.size:
        raise UserError(
            "more staircases are needed (--staircases): of those searched, no critical point has a"
            " split that is steep enough for a flow to leave it"
        )
    chosen = jax.tree.map(lambda leaf: leaf[strict, steepest[strict]], candidates)
    return EmbeddedSaddles(chosen, np.array(units)[strict], np.stack(targets)[strict])


def rates(config: Config, results: Mapping[str, xr.Dataset], saddles: EmbeddedSaddles) -> Rates:
    """The fitted rates of growth, in units of |λ_min|."""
    left = escape.escapes_of(results[TRAINING])
    expected = _twice(-np.asarray(saddles.saddle.eigenvalue))
    ratios = escape.rate(left.time, left.distance, WINDOW) / expected
    return Rates(*np.split(ratios, 2))


def escape_claims(saddles: EmbeddedSaddles, measured: Rates) -> list[Claim]:
    """That the rates are |λ_min| to within 1 %, by the units of the narrow network."""

    def claim(units: int) -> Claim:
        near = np.abs(measured.along - 1) <= 0.01
        return share_claim(
            f"{EXPERIMENT.name}/escape-{units}",
            f"From next to a saddle embedded from {'one unit' if units == 1 else 'two units'},"
            " along its lowest eigenvector, gradient flow departs at the rate |λ_min| to within"
            " 1 %.",
            _SOURCE,
            near[saddles.units == units],
            Target(">=", 0.5),
        )

    random = share_claim(
        f"{EXPERIMENT.name}/escape-random",
        "So it does from next to a saddle in a random direction, once that has grown a"
        " hundredfold.",
        _SOURCE,
        np.abs(measured.random - 1) <= 0.01,
        Target(">=", 0.6),
    )
    return [claim(1), claim(2), random]


def table(saddles: EmbeddedSaddles, measured: Rates) -> list[dict[str, Any]]:
    """One row per saddle."""
    columns = zip(saddles.units, np.asarray(saddles.saddle.eigenvalue), *measured, strict=True)
    return [
        {
            "units": int(units),
            "λ_min": float(eigenvalue),
            "rate / |λ_min|, along v_min": float(along),
            "rate / |λ_min|, random start": float(random),
        }
        for units, eigenvalue, along, random in columns
    ]


def figure(results: Mapping[str, xr.Dataset], saddles: EmbeddedSaddles, measured: Rates) -> Figure:
    """Distances in time from random starts, and fitted rates against |λ_min|."""
    left = escape.escapes_of(results[TRAINING])
    steepness = -np.asarray(saddles.saddle.eigenvalue)
    random_time, random_distance = (np.split(each, 2)[1] for each in (left.time, left.distance))
    with plots.style():
        fig, (growth, fitted) = plots.figure(1, 2, height=2.4)
        for units, color in zip((1, 2), plots.OKABE_ITO, strict=False):
            here = saddles.units == units
            curves = growth.semilogy(
                (random_time * steepness[:, None])[here].T,
                random_distance[here].T,
                color=color,
                alpha=0.6,
                linewidth=0.7,
            )
            if curves:
                curves[0].set_label(f"m = {units}")
            for ratio, style in ((measured.along, "o"), (measured.random, "x")):
                start = "along $v_{\\min}$" if style == "o" else "random start"
                fitted.loglog(
                    steepness[here],
                    (ratio * steepness)[here],
                    style,
                    color=color,
                    markersize=5,
                    fillstyle="none",
                    label=f"m = {units}, {start}",
                )
        t = np.array([6.0, 11.0])
        growth.semilogy(t, 1e-10 * np.exp(t), "k:", label=r"$\propto \exp(|\lambda_{\min}|\, t)$")
        growth.axhspan(*WINDOW, color="0.9", zorder=0, label="fitted")
        growth.set(xlabel=r"time × $|\lambda_{\min}|$", ylabel="distance from the saddle")
        ends = np.array([steepness.min(), steepness.max()]) * [0.7, 1.4]
        fitted.loglog(ends, ends, "k:", label=r"rate = $|\lambda_{\min}|$")
        fitted.set(xlabel=r"$|\lambda_{\min}|$", ylabel="fitted rate of growth")
        for axes in (growth, fitted):
            axes.legend()
    return fig


def _all_splits(
    config: Config, points: CriticalPoints, units: int
) -> list[tuple[Params, Float[np.ndarray, "outputs n"]]]:
    """For each staircase with an accepted point, the best, in all its splits to three units."""
    loss = np.where(points.accepted, points.loss, np.inf)
    best = loss.argmin(axis=1)
    chosen = np.flatnonzero(points.accepted.any(axis=1))
    params = points.take((chosen, best[chosen])).params
    unit, alpha = map(np.ravel, np.meshgrid(range(2), _ALPHAS, indexing="ij"))
    unit = unit % units  # of a single unit, each candidate twice
    wide = jax.tree.map(np.asarray, _split(params, unit, alpha, _WIDTH - units))
    targets = searches.staircases(config, units).targets
    rows = [jax.tree.map(lambda leaf, row=row: leaf[row], wide) for row in range(len(chosen))]
    return list(zip(rows, targets[chosen], strict=True))


@functools.partial(jax.jit, static_argnums=3, compiler_options=dict(ONCE))
def _split(
    params: Params, unit: Int[Array, " candidate"], alpha: Float[Array, " candidate"], times: int
) -> Params:
    """Leading axes of the result: network, candidate."""

    def one(params: Params, unit: Int[Array, ""], alpha: Float[Array, ""]) -> Params:
        for _ in range(times):
            params = width.split(params, 0, unit, alpha)
        return params

    candidates = jax.vmap(one, in_axes=(None, 0, 0))
    return jax.vmap(candidates, in_axes=(0, None, None))(params, unit, alpha)


@functools.partial(jax.jit, static_argnums=0, compiler_options=dict(ONCE))
def _saddles(loss: Callable[[Params, Data], Array], params: Params, data: Data) -> Saddle:
    """What the Hessian says of every candidate; leading axes network, candidate."""

    def one(params: Params, targets: Float[Array, "outputs n"]) -> Saddle:
        batch = {**data, "targets": targets}
        return escape.saddle(lambda params: loss(params, batch), params)

    return jax.vmap(jax.vmap(one, in_axes=(0, None)))(params, data["targets"])


@functools.partial(jax.jit, compiler_options=dict(ONCE))
def _starts(saddles: Saddle, key: Key[Array, ""]) -> Params:
    """One start along the lowest eigenvector of every saddle, then one at random for each."""
    keys = jax.random.split(key, len(saddles.eigenvalue))
    along = jax.vmap(lambda at: escape.displaced(at, WINDOW[0]))(saddles)
    random = jax.vmap(lambda at, key: escape.displaced(at, _RANDOM_START, key))(saddles, keys)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), along, random)


def _twice(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), tree)
