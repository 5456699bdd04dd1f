"""The figures of ``spikes-quadratic``."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.ndimage import maximum_filter1d

from experiments.spikes.quadratic import theory
from experiments.spikes.quadratic.stages import Stages
from phenodl import plots

LOWEST, HIGHEST = 1e-80, 1e80
"""The trajectories are drawn between these; the slowest go much deeper, absurd ones higher."""


def trajectories(
    adams: xr.Dataset, descent: xr.Dataset, found: Mapping[float, Stages], window: int
) -> Figure:
    """Loss, moments and curvature of each β2 until its first spike is over.

    Args:
        adams: Adam, along ``b2`` and ``step``.
        descent: gradient descent at the same learning rate.
        found: the stages of each β2's first spike; other β2 are drawn as controls.
        window: steps over which the swinging loss and g² are drawn by their maximum.
    """
    with plots.style():
        fig, (top, middle, bottom) = plots.figure(3, 1, height=5.2, sharex=True)
        loss = np.minimum(descent.loss.squeeze(), HIGHEST)
        top.plot(descent.step + 1, loss, color="0.6", label="gradient descent")
        for number, b2 in enumerate(adams.b2.values):
            stage = found.get(float(b2))
            end = None if stage is None or stage.peak < 0 else 2 * stage.peak - stage.crossing
            run = adams.sel(b2=b2).isel(step=slice(end))
            color = "black" if stage is None else plots.OKABE_ITO[number % 7]
            step = run.step.values + 1
            loss = np.minimum(maximum_filter1d(run.loss.values, window), HIGHEST)
            corrected = run.second_moment / (1 - b2**step)
            line = {"color": color, "linestyle": "--" if stage is None else "-"}
            top.plot(step, loss, label=f"β2 = {b2:g}", **line)
            middle.plot(step, np.minimum(corrected, HIGHEST), **line)
            middle.plot(step, 2 * loss, color=color, linestyle=":", linewidth=0.8)
            bottom.plot(step, run.curvature, **line)
            if stage is not None and end is not None:
                _mark(top, stage.crossing, loss, "o", color)
                _mark(top, stage.peak, loss, "^", color)
                _mark(bottom, stage.crossing, run.curvature.values, "o", color)
        plots.threshold(bottom, float(adams.threshold.values.flat[0]), "2/η")
        top.plot([], [], "o", color="0.35", markersize=3, label="curvature crosses 2/η")
        top.plot([], [], "^", color="0.35", markersize=3, label="peak of the loss")
        middle.plot([], [], color="0.35", label="second moment v̂")
        middle.plot([], [], color="0.35", linestyle=":", label="squared gradient g²")
        middle.legend(loc="lower left")
        for axes, label in ((top, "loss"), (middle, "v̂, g²"), (bottom, "preconditioned curvature")):
            axes.set(xscale="log", yscale="log", ylabel=label)
        top.set(ylim=(LOWEST, 1e3), yticks=10.0 ** np.arange(-80, 1, 20))
        middle.set(ylim=(1e-12, 3))
        bottom.set(xlabel="step", xlim=(10, adams.sizes["step"]))
        fig.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def _mark(axes: Axes, step: int, curve: Float[np.ndarray, " step"], mark: str, color: str) -> None:
    axes.plot(step + 1, max(curve[step], LOWEST), mark, color=color, markersize=3, zorder=3)


def phase_diagram(points: xr.Dataset) -> Figure:
    """The height of the highest spike, and when the curvature first crosses, over η and β2.

    Args:
        points: ``rise``, ``first_crossing`` and ``loss`` along ``b1``, ``b2``, ``learning_rate``.
    """
    with plots.style():
        fig, axes = plots.figure(
            2, points.sizes["b1"], height=4.4, sharex=True, sharey=True, squeeze=False
        )
        for b1, (top, bottom) in zip(points.b1.values, axes.T, strict=True):
            some = points.sel(b1=b1).transpose("b2", "learning_rate")
            grid = some.learning_rate.values, 1 - some.b2.values
            gone = some.loss.values == 0
            decades = np.where(gone, np.nan, np.maximum(np.log10(some.rise.values), 0.1))
            crossing = np.where(some.first_crossing >= 0, some.first_crossing + 1, np.nan)
            height = top.pcolormesh(*grid, decades, norm=LogNorm(0.1, 300), rasterized=True)
            later = {"norm": LogNorm(1, points.attrs["total_steps"]), "cmap": "viridis_r"}
            when = bottom.pcolormesh(*grid, crossing, **later, rasterized=True)
            _hatch(top, *grid, gone)
            for row in (top, bottom):
                row.set(xscale="log", yscale="log")
                if b1 >= some.b2.min():
                    plots.threshold(row, 1 - b1, "β2 = β1", color="white" if row is top else "0.2")
            top.set_title(f"β1 = {b1:g}")
            bottom.set_xlabel("learning rate η")
        for row in axes:
            row[0].set_ylabel("1 − β2")
        fig.colorbar(height, ax=axes[0], label="highest spike (decades of the loss)")
        fig.colorbar(when, ax=axes[1], label="curvature first above 2/η at step\n(white: never)")
    return fig


def _hatch(
    axes: Axes,
    learning_rate: Float[np.ndarray, " column"],
    forgetting: Float[np.ndarray, " row"],
    gone: Bool[np.ndarray, "row column"],
) -> None:
    """Marks the points at which θ has underflowed to zero, where nothing can spike any more."""
    if not gone.any():
        return
    style = {"colors": "white", "hatches": ["////"]}
    axes.contourf(learning_rate, forgetting, gone, levels=[0.5, 1], **style)
    rows, columns = np.nonzero(gone)
    centre = np.exp(np.log(learning_rate[columns]).mean()), np.exp(np.log(forgetting[rows]).mean())
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.annotate("θ = 0", centre, ha="center", va="center", fontsize=7, bbox=box)


def crossings(rows: Sequence[Mapping[str, float]], b2: float) -> Figure:
    """The step of the crossing over ε for each β1, and beyond which ε there is none.

    Args:
        rows: ``b1``, ``eps``, ``eigenvalue``, ``measured`` and ``derived``, infinite for never.
        b2: of them all.
    """
    with plots.style():
        fig, axes = plots.figure(height=2.6)
        scalar = [row for row in rows if row["eigenvalue"] == 1 and row["eps"] > 1e-6]
        last = max((row["measured"] for row in scalar if row["measured"] < np.inf), default=1.0)
        for color, b1 in zip(plots.OKABE_ITO, sorted({row["b1"] for row in scalar}), strict=False):
            some = sorted((row for row in scalar if row["b1"] == b1), key=lambda row: row["eps"])
            eps = np.array([row["eps"] for row in some])
            measured = np.array([row["measured"] for row in some])
            derived = np.array([row["derived"] for row in some])
            edge = some[0]["learning_rate"] * float(theory.momentum_factor(b1)) / 2
            axes.axvline(edge, color=color, linestyle=":", linewidth=0.8)
            axes.plot(eps, np.where(derived < np.inf, derived, np.nan), color=color, linewidth=0.8)
            axes.plot(eps, measured, "o", color=color, markersize=3, label=f"β1 = {b1:g}")
            never = eps[np.isinf(measured)]
            axes.plot(never, np.full(len(never), 1.25 * last), "x", color=color, markersize=3)
        axes.axhline(1.15 * last, color="0.7", linewidth=0.6)
        axes.plot([], [], "0.35", linewidth=0.8, label="derived")
        axes.plot([], [], "x", color="0.35", markersize=3, label="never (above the line)")
        axes.plot([], [], ":", color="0.35", label="ε = ηf/2")
        axes.set(xscale="log", xlabel="ε", ylabel="gradients until crossing")
        axes.set_title(f"the curvature crosses 2/η, β2 = {b2:g}")
        fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def spectrum(felt: xr.DataArray, learning_rate: float) -> Figure:
    """The preconditioned curvature along each axis of a quadratic, for each ε.

    Args:
        felt: along ``eps``, ``step`` and ``eigenvalue``.
        learning_rate: η.
    """
    with plots.style():
        fig, panels = plots.figure(
            1, felt.sizes["eps"], height=2.4, sharex=True, sharey=True, squeeze=False
        )
        for axes, eps in zip(panels[0], felt.eps.values, strict=True):
            for number, eigenvalue in enumerate(felt.eigenvalue.values):
                # Without ε the curves coincide: each is drawn narrower than the one below it.
                axes.plot(
                    np.arange(felt.sizes["step"]) + 1,
                    felt.sel(eps=eps, eigenvalue=eigenvalue),
                    color=plots.OKABE_ITO[number % 7],
                    linewidth=2.5 / (1 + number),
                    label=f"λ = {eigenvalue:g}",
                )
            plots.threshold(axes, 2 / learning_rate, "2/η")
            axes.set(yscale="log", xlabel="step", title=f"ε = {eps:g}")
        panels[0, 0].set_ylabel("preconditioned curvature")
        panels[0, 0].legend(loc="lower right")
    return fig


def ring_down(run: xr.Dataset, stage: Stages, window: int) -> Figure:
    """The loss around the peak of a spike, and the level that the detector looks at.

    Args:
        run: ``loss`` along ``step``.
        stage: of its first spike; without one the beginning of the run is drawn.
        window: steps over which the detector takes the highest loss.
    """
    with plots.style():
        fig, axes = plots.figure(height=2.2)
        peak = max(stage.peak, 0)
        around = slice(max(peak - window, 0), peak + 12 * window)
        loss = np.clip(run.loss.values, LOWEST, HIGHEST)
        level = maximum_filter1d(loss, window, origin=(window - 1) // 2)
        step = run.step.values - peak
        axes.plot(step[around], loss[around], label="loss")
        axes.plot(step[around], level[around], label=f"highest of {window} steps")
        axes.axvline(0, color="0.35", linestyle="--", linewidth=0.8)
        axes.set(yscale="log", ylabel="loss", xlabel="steps since the peak")
        axes.set_title(f"β2 = {float(run.b2):g}")
        axes.legend(loc="lower center")
    return fig
