"""The figures of ``spikes-polynomial``."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from experiments.spikes.polynomial import theory
from phenodl import plots

LOWEST = 1e-60
"""The curves are drawn down to here."""

REGIMES = {
    theory.STABLE: ("g² stays apart from v", "#BFDDF2"),
    theory.SPIKES: ("parts and rejoins: spikes", plots.OKABE_ITO[1]),
    theory.SWINGS: ("never parts: swings", "0.75"),
}


def _record(runs: xr.Dataset, name: str) -> tuple[np.ndarray, xr.DataArray]:
    """The steps, counted from 1, at which something was recorded, and the record."""
    (step,) = (dim for dim in runs[name].dims if str(dim).startswith("step"))
    return runs[step].values + 1, runs[name].rename({step: "record"})


def convergence(
    adams: xr.Dataset, descent: xr.Dataset, shown: tuple[float, float, float]
) -> Figure:
    """The loss of Adam over linear steps, of gradient descent over logarithmic ones, for each p.

    Args:
        adams: ``gradient`` along power, learning_rate, b1, b2 and steps.
        descent: ``loss`` along power, learning_rate, b1 and steps.
        shown: η, β1 and β2 of the runs to draw.
    """
    eta, b1, b2 = shown
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.6)
        steps, gradients = _record(adams, "gradient")
        slow, losses = _record(descent, "loss")
        for color, power in zip(plots.OKABE_ITO, adams.power.values, strict=False):
            gradient = np.abs(gradients.sel(power=power, learning_rate=eta, b1=b1, b2=b2).values)
            loss = gradient ** (power / (power - 1)) / power
            left.plot(steps, loss, color=color, label=f"p = {power}")
            if power > 2 and theory.converges(power, b1, b2):
                _guide(left, steps, loss, np.exp(theory.loss_rate(power, b2) * steps))
            for momentum, line in ((0.0, "-"), (b1, "--")):
                if momentum in descent.b1.values:
                    run = losses.sel(power=power, learning_rate=eta, b1=momentum).values
                    right.plot(slow, run, color=color, linestyle=line)
            if power > 2 and 0.0 in descent.b1.values:
                run = losses.sel(power=power, learning_rate=eta, b1=0.0).values
                _guide(right, slow, run, slow ** theory.descent_exponent(int(power)))
        end = 80 / (1 - b2)
        left.set(yscale="log", xlim=(0, end), ylim=(LOWEST, 10), xlabel="step", ylabel="loss")
        left.set_title(f"Adam, η = {eta:g}, β1 = {b1:g}, β2 = {b2:g}")
        right.set(xscale="log", yscale="log", xlim=(10, slow[-1]), ylim=(1e-14, 10), xlabel="step")
        right.set_title("gradient descent, same η")
        right.plot([], [], "0.35", label="β1 = 0")
        right.plot([], [], "0.35", linestyle="--", label=f"momentum {b1:g}")
        right.plot([], [], "k:", label="derived slope")
        left.legend(loc="lower right")
        right.legend(loc="lower right")
    return fig


def _guide(axes: Axes, steps: np.ndarray, loss: np.ndarray, shape: np.ndarray) -> None:
    """A dotted line of the derived slope, slightly above the late part of a curve."""
    reliable = np.flatnonzero((loss > LOWEST) & (steps > 100))
    if reliable.size:
        middle = reliable[len(reliable) // 2]
        axes.plot(steps, 3 * loss[middle] * shape / shape[middle], "k:", linewidth=0.8)


def moments(adams: xr.Dataset, shown: tuple[float, float, float]) -> Figure:
    """The second moment and g² for each p: together and apart in turns where p = 2."""
    eta, b1, b2 = shown
    some = adams.sel(learning_rate=eta, b1=b1, b2=b2)
    with plots.style():
        powers = adams.power.values
        fig, panels = plots.figure(1, len(powers), height=1.9, sharey=True, squeeze=False)
        for axes, power in zip(panels[0], powers, strict=True):
            steps, v = _record(some.sel(power=power), "second_moment")
            _, gradient = _record(some.sel(power=power), "gradient")
            axes.plot(steps, v, label="v")
            axes.plot(steps, np.square(gradient), linewidth=0.6, label="g²")
            axes.plot(steps, 1e-4 * b2**steps, "k:", linewidth=0.8, label="slope of β2^t")
            axes.set(yscale="log", xlim=(0, 80 / (1 - b2)), ylim=(LOWEST, 10), xlabel="step")
            axes.set_title(f"p = {power}")
        panels[0, 0].legend(loc="lower left")
    return fig


def phase_diagram(measured: xr.DataArray) -> Figure:
    """The measured regime over β1 and β2 for each p, with the derived borders.

    Args:
        measured: one of ``theory.STABLE``, ``SPIKES``, ``SWINGS`` along power, b2, b1.
    """
    colors = ListedColormap([color for _, color in REGIMES.values()])
    norm = BoundaryNorm(np.arange(len(REGIMES) + 1) - 0.5, len(REGIMES))
    with plots.style():
        count = measured.sizes["power"]
        columns = min(count, 2)
        rows = -(-count // columns)
        fig, panels = plots.figure(
            rows, columns, height=2.3 * rows + 0.4, sharex=True, sharey=True, squeeze=False
        )
        b1, b2 = measured.b1.values, measured.b2.values
        fine = 1 - np.geomspace(1 - b1.max(), 1 - b1.min(), 300)
        for axes, power in zip(panels.flat, measured.power.values, strict=False):
            grid = 1 - b1, 1 - b2
            axes.pcolormesh(*grid, measured.sel(power=power), cmap=colors, norm=norm)
            border = theory.border_of_swings(power, fine)
            stable = theory.converges(power, fine, fine[:, None])
            unstable = ~stable.any() | ~theory.converges(power, border, fine)
            axes.plot(1 - np.where(unstable, border, np.nan), 1 - fine, "k--", linewidth=0.9)
            if stable.any():
                axes.contour(1 - fine, 1 - fine, stable, levels=[0.5], colors="k", linewidths=0.9)
            axes.set(xscale="log", yscale="log", title=f"p = {power}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set(xlim=(grid[0].min(), grid[0].max()), ylim=(grid[1].min(), grid[1].max()))
        for axes in panels[-1]:
            axes.set_xlabel("1 − β1")
        for axes in panels[:, 0]:
            axes.set_ylabel("1 − β2")
        handles = [Patch(color=color, label=label) for label, color in REGIMES.values()]
        (solid,) = panels[0, 0].plot([], [], "k", label="derived: stable")
        (dashed,) = panels[0, 0].plot([], [], "k--", label="derived: v keeps up with g²")
        fig.legend(handles=[*handles, solid, dashed], loc="outside upper center", ncols=3)
    return fig
