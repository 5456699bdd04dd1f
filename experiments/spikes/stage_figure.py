"""The figure of the five stages of a loss spike."""

import itertools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.spikes.figures import COLORS, MOMENTS, typical_seed
from experiments.spikes.scores import each_step
from phenodl import plots
from phenodl.spikes.detect import Spikes
from phenodl.spikes.stages import STAGES, Stages

GREYS = ("1.0", "0.93", "0.85", "0.76", "0.90")
"""Of the five stages."""


def stages(
    runs: xr.Dataset,
    spikes: Spikes,
    found: Stages,
    *,
    signal: str = "curvature_a",
    width: int = 1,
    floor: float = 0.0,
) -> Figure:
    """The five stages of a typical run's highest spike, each shaded in its own grey.

    Args:
        runs: as for ``scores.find_stages``.
        spikes: of the runs.
        found: the stages of the same spikes.
        signal: the curvature that crosses.
        width: steps over which it is averaged.
        floor: the lowest loss there can be.
    """
    number = typical_seed(spikes)
    run = runs.isel(seed=[number])
    with plots.style():
        fig, (top, middle, bottom) = plots.figure(3, 1, height=4.4, sharex=True)
        top.plot(run.step, each_step(run, "loss")[0] - floor, color="black")
        top.set(yscale="log", ylabel="loss above its floor" if floor else "loss")
        squared, second = (
            run[name].transpose("seed", "step", ...).values[0].sum(axis=-1)
            for name in ("squared_gradient", "second_moment")
        )
        middle.plot(run.step, squared, color=MOMENTS["squared_gradient"][1], label="g²")
        middle.plot(run.step, second, color=MOMENTS["second_moment"][1], label="v̂")
        middle.set(yscale="log", ylabel="sum over\nall parameters")
        middle.legend(loc="lower left")
        ratio = each_step(run, signal, width)[0] / each_step(run, "threshold")[0]
        bottom.plot(run.step, ratio, color=COLORS[signal])
        plots.threshold(bottom, 1.0, "2/η")
        names = [f"{number} {name}" for number, name in enumerate(STAGES, start=1)]
        bottom.set(ylabel="curvature / (2/η)", ylim=(0, 1.6))
        bottom.set_xlabel(f"step\n{', '.join(names[:3])},\n{', '.join(names[3:])}")
        heights = np.nan_to_num(spikes.height[number], nan=-1.0)
        spike = int(np.argmax(heights))
        title = f"seed {int(run.seed[0])}"
        if heights[spike] >= 0:
            borders = found.borders[number, spike]
            title += f", its highest spike ({heights[spike]:.1f} decades)"
            last = borders[-1] if borders[-1] >= 0 else run.sizes["step"] - 1
            first = max(borders[0], 2 * max(borders[2], 0) - last - 40, 0)
            right = last + (last - first) // 6
            for axes in (top, middle, bottom):
                _shade_stages(axes, borders)
                axes.set_xlim(first, right)
            bottom.set_ylim(top=max(1.6, 1.1 * np.nanmax(ratio[first:right], initial=0)))
            _name_stages(top, borders, first)
        top.set_title(title, pad=14)
    return fig


def _shade_stages(axes: Axes, borders: np.ndarray) -> None:
    for grey, first, last in zip(GREYS, borders[:-1], borders[1:], strict=True):
        if first >= 0 and last > first:
            axes.axvspan(first, last, color=grey, linewidth=0, zorder=0)


def _name_stages(axes: Axes, borders: np.ndarray, left: int) -> None:
    """The numbers of the stages above the axes."""
    for number, (first, last) in enumerate(itertools.pairwise(borders), start=1):
        if first >= 0 and last > max(first, left):
            middle = (max(first, left) + last) / 2
            place = (middle, 1.0)
            axes.annotate(
                str(number),
                place,
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
            )
