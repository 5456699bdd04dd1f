"""The figures of ``spikes-quadratic``."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.ndimage import maximum_filter1d

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
            decades = np.maximum(np.log10(some.rise.values), 0.1)
            crossing = np.where(some.first_crossing >= 0, some.first_crossing + 1, np.nan)
            height = top.pcolormesh(*grid, decades, norm=LogNorm(0.1, 300), rasterized=True)
            later = {"norm": LogNorm(1, points.attrs["total_steps"]), "cmap": "viridis_r"}
            when = bottom.pcolormesh(*grid, crossing, **later, rasterized=True)
            _hatch(top, *grid, some.loss.values == 0)
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
    """Blanks the points at which θ has underflowed to zero, where nothing can spike any more."""
    if not gone.any():
        return
    style = {"colors": "white", "hatches": ["////"]}
    axes.contourf(learning_rate, forgetting, gone, levels=[0.5, 1], **style)
    rows, columns = np.nonzero(gone)
    centre = np.exp(np.log(learning_rate[columns]).mean()), np.exp(np.log(forgetting[rows]).mean())
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.annotate("θ = 0", centre, ha="center", va="center", fontsize=7, bbox=box)
