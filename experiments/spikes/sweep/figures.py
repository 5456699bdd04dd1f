"""The figures of ``spikes-sweep``."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from phenodl import plots

LABELS = {
    "learning_rate": "learning rate η",
    "b1": "β1",
    "b2": "β2",
    "eps": "ε",
    "batch": "points per step, of 100",
    "width": "units of the hidden layer",
    "depth": "hidden layers",
}
"""The axes' names in the figures."""


def coordinate(runs: xr.Dataset) -> str:
    """The axis of a line beside the seeds."""
    return next(str(dim) for dim in runs.spikes.dims if dim != "seed")


def maps(rates: xr.Dataset, moments: xr.Dataset) -> Figure:
    """Median number and height of the spikes over β2 and η, and over ε and β1."""
    with plots.style():
        fig, grid = plots.figure(2, 2, height=4.2)
        pairs = ((rates, "learning_rate", "b2"), (moments, "eps", "b1"))
        images = {}
        for column, (runs, across, up) in zip(grid.T, pairs, strict=True):
            for axes, name in zip(column, ("spikes", "highest"), strict=True):
                medians = runs[name].transpose("seed", up, across).median("seed")
                images[name] = _heat_map(axes, medians.values, name)
                axes.set_xticks(range(medians.sizes[across]), _ticks(runs[across].values))
                axes.set_yticks(range(medians.sizes[up]), _ticks(runs[up].values))
                axes.set(xlabel=LABELS[across], ylabel=LABELS[up])
        labels = {"spikes": "number of spikes", "highest": "highest spike (decades)"}
        for row, (name, label) in zip(grid, labels.items(), strict=True):
            fig.colorbar(images[name], ax=row, label=label)
    return fig


def _heat_map(axes: Axes, medians: np.ndarray, name: str):
    least, most = (1.0, 50.0) if name == "spikes" else (0.1, 5.0)
    norm = LogNorm(least, most, clip=True)
    image = axes.imshow(np.maximum(medians, least), norm=norm, origin="lower", aspect="auto")
    for row, column in np.ndindex(medians.shape):
        number = medians[row, column]
        text = f"{number:.0f}" if name == "spikes" else f"{number:.1f}"
        dark = number < least * (most / least) ** 0.6
        color = "white" if dark else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    return image


def _ticks(values: np.ndarray) -> list[str]:
    """Short enough to stand side by side."""
    return [
        np.format_float_scientific(value, trim="-", exp_digits=1)
        if 0 < value <= 1e-3
        else f"{value:g}"
        for value in values
    ]


def sizes(lines: Mapping[str, xr.Dataset]) -> Figure:
    """Number and height of the spikes over batch size, width and depth; every seed a point."""
    names = ("batch", "width", "depth")
    with plots.style():
        fig, grid = plots.figure(2, len(names), height=3.4, sharex="col", sharey="row")
        for (top, bottom), name in zip(grid.T, names, strict=True):
            runs = lines[name]
            x = np.arange(runs.sizes["size"])
            for axes, what in ((top, "spikes"), (bottom, "highest")):
                points = runs[what].transpose("seed", "size").values
                plots.band(axes, x, points)
                axes.plot(x, points.T, "o", color="0.4", markersize=1.5)
            bottom.set_xticks(x, _ticks(runs["size"].values))
            bottom.set_xlabel(LABELS[name])
        grid[0, 0].set_ylabel("number of spikes")
        grid[1, 0].set_ylabel("highest spike\n(decades)")
    return fig
