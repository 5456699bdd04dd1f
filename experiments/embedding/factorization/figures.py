"""The figures: a run through the hierarchy, where splits lie and go, the Hessian's eigenvalues."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.completion.hierarchy.outcome import History
from experiments.embedding.factorization.config import Config
from experiments.embedding.factorization.departures import Departures, whole
from experiments.embedding.factorization.narrow import Narrow
from experiments.embedding.factorization.passage import Passage
from experiments.embedding.factorization.wide import KINDS, Embedded
from phenodl import plots
from phenodl.data.matrices import Instances
from phenodl.embedding.factorization import split_distance
from phenodl.models.factorization import Factors

_LEAST = 1e-17  # smaller numbers are rounding, and are drawn there
_FITTED = 1e-6  # loss per entry at which the drawn part of a run ends
_SHOWN = 800  # steps of the flow from displaced embeddings
_LINEAR = 1e-6  # eigenvalues below it are drawn on a linear scale


def hierarchy(
    history: History, passed: Passage, points: Mapping[int, Narrow], run: int, family: Instances
) -> Figure:
    """One run: its loss with those of narrow critical points, its distance from their orbits."""
    plateaus = passed.plateaus.record[passed.plateaus.run == run]
    observed = family.mask[run].sum()
    with plots.style():
        fig, (loss, distance) = plots.figure(2, 1, height=3.8, sharex=True)
        loss.plot(history.step, history.loss[run], color="0.2")
        for (width, narrow), color in zip(points.items(), plots.OKABE_ITO, strict=False):
            level = narrow.of_least_loss(narrow.loss)[run] / observed
            plots.threshold(loss, level, f"minimum of width {width}, embedded", color=color)
            values = np.maximum(passed.distance[width][run], _LEAST)
            distance.plot(history.step, values, color=color, label=f"width {width}")
        for axis in (loss, distance):
            for record in plateaus:
                axis.axvline(history.step[record], color="0.8", linewidth=0.8, zorder=0)
        end = history.step[np.flatnonzero(history.loss[run] > _FITTED)[-1]]
        loss.set(yscale="log", ylim=(_FITTED, 30), ylabel="loss per entry", xlim=(0, end))
        loss.set_title("a run of width 4 from a tiny start; grey: its plateaus")
        distance.set(yscale="log", xlabel="step", ylabel="distance of W_aug")
        distance.set_title(
            "from the nearest null embedding of the narrow minimum (floor: balance lost by steps)"
        )
        distance.legend(loc="center right")
    return fig


def splits(
    left: Departures, start: Factors, narrow: Factors, points: Narrow, config: Config
) -> Figure:
    """Best rank-1 fits: how far splits are from Omega_1, and the way of the loss from there."""
    distance = np.linalg.svd(whole(start), compute_uv=False)[1:, :, 1] / _size(narrow)
    alphas = np.asarray(config.alphas)
    curve = np.linspace(alphas.min(), alphas.max(), 301)
    half = jnp.array([0.5**0.5])  # of a unit whose column of W_aug has length 1
    closed_form = jax.vmap(split_distance, in_axes=(None, None, 0))(half, half, jnp.asarray(curve))
    ratio = left.loss[0] / points.of_least_loss(points.loss)[:, None]
    with plots.style():
        fig, (where, way) = plots.figure(1, 2, height=2.5)
        where.plot(curve, closed_form, color="0.6", label="closed form")
        where.plot(alphas, np.median(distance, axis=1), "o", markersize=3, label="measured")
        where.set(xlabel="share α of the copy", ylabel="distance from Ω₁ over |W_aug|")
        where.set(title="splits of rank-1 minima")
        where.legend(loc="upper center")
        drawn = [(f"α = {alpha:g}", kind + 1) for kind, alpha in _few(config.alphas)]
        for (label, kind), color in zip(drawn, plots.OKABE_ITO, strict=False):
            plots.band(way, left.step, ratio[kind], label=label, color=color)
        plots.band(way, left.step, ratio[0], label="null", color="0", linestyle=":")
        way.set(yscale="log", xlim=(0, _SHOWN), xlabel="step")
        way.set(ylabel="loss over that of the start")
        way.set(title="the flow, displaced within the manifold")
        way.legend(loc="upper right", bbox_to_anchor=(1, 0.93), fontsize=6)
    return fig


def spectra(embedded: Mapping[int, Embedded]) -> Figure:
    """The eigenvalues at one instance's minima, narrow, and embedded in three ways."""
    with plots.style():
        fig, axes = plots.figure(1, len(embedded), height=2.6, sharey=True, squeeze=False)
        for axis, (width, each) in zip(axes[0], embedded.items(), strict=True):
            at = int(each.least.argmax())
            columns = [each.narrow[at], *each.wide[at]]
            for place, values in enumerate(columns):
                axis.plot(np.full(len(values), place), values, "_", markersize=12, color="0.2")
            for sign in (-1, 1):
                for number, value in enumerate(each.residual_values[at]):
                    if value > _LINEAR:
                        label = "± singular values of R" if sign > 0 and number == 0 else None
                        axis.axhline(sign * value, color=plots.OKABE_ITO[1], lw=0.7, label=label)
            axis.set_yscale("symlog", linthresh=1e-2)
            axis.set_xticks(range(len(columns)), ["narrow", *KINDS], rotation=20)
            axis.set(title=f"a minimum of width {width}", xlim=(-0.5, len(columns) - 0.5))
        axes[0, 0].set(ylabel="Hessian eigenvalue")
        axes[0, 0].legend(loc="center left")
    return fig


def _size(narrow: Factors) -> np.ndarray:
    """The norms of W_aug."""
    return np.linalg.norm(whole(narrow), axis=(1, 2))


def _few(alphas: tuple[float, ...]) -> list[tuple[int, float]]:
    """One half and the shares below it; those above mirror them."""
    return [(number, alpha) for number, alpha in enumerate(alphas) if alpha <= 0.5]
