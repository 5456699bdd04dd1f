"""The figures of ``spikes-language``."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.spikes.figures import draw_around_trigger, shade
from experiments.spikes.language.outcome import SIGNALS, Outcome, first_leads
from experiments.spikes.scores import WINDOW, each_step
from phenodl import plots
from phenodl.spikes.detect import Spikes

COLORS = {"curvature_b": plots.OKABE_ITO[0], "gradient": plots.OKABE_ITO[1]}
LABELS = {"curvature_b": "B / (2/η)", "gradient": "gradient norm / (2 medians)"}
MOST = 5
"""Seeds that have a row of their own."""


def seeds(runs: xr.Dataset, outcome: Outcome, floor: float) -> Figure:
    """Loss, B and gradient norm of the first seeds; their spikes shaded."""
    shown = min(runs.sizes["seed"], MOST)
    logs = excess(runs, floor)
    with plots.style():
        fig, grid = plots.figure(
            shown, 2, height=0.5 + 1.15 * shown, sharex=True, sharey="col", squeeze=False
        )
        for place, (left, right) in enumerate(grid):
            left.plot(runs.step, logs[place], color="black")
            left.set(yscale="log", ylabel=f"seed {int(runs.seed[place])}")
            for name, color in COLORS.items():
                curve = outcome.signals[name].values[place]
                right.plot(runs.step, curve, color=color, label=LABELS[name])
            plots.threshold(right, 1.0, "threshold" if place == 0 else "")
            spikes = Spikes(*(column[place] for column in outcome.spikes))
            for axes in (left, right):
                shade(axes, spikes, runs.sizes["step"])
        right = grid[0, 1]
        right.set(ylim=(0, 2.5), xlim=(0, runs.sizes["step"]), title="10-step means")
        right.legend(loc="upper left")
        grid[0, 0].set_title("loss above its floor; shaded: spikes")
        for axes in grid[-1]:
            axes.set_xlabel("step")
    return fig


def around_trigger(
    runs: xr.Dataset, outcome: Outcome, floor: float, before: int = 60, after: int = 60
) -> Figure:
    """Loss and signals of all spikes, aligned at their triggers."""
    steps = np.arange(-before, after + 1)
    with plots.style():
        fig, (top, bottom) = plots.figure(2, 1, height=3.4, sharex=True)
        curves = [
            (outcome.signals[name].values, color, LABELS[name]) for name, color in COLORS.items()
        ]
        logs = np.log10(excess(runs, floor))
        draw_around_trigger(top, bottom, logs, curves, outcome.spikes, steps)
        plots.threshold(bottom, 1.0, "threshold")
        top.set_ylabel("log10 loss above floor,\nfrom trigger")
        bottom.set(ylabel="10-step mean / threshold", ylim=(0, 4))
    return fig


def lead_times(outcome: Outcome) -> Figure:
    """Steps from alarm to trigger, a row per seed."""
    with plots.style():
        fig, axes = plots.figure(height=2.2)
        for (name, found), size in zip(outcome.found.items(), (4, 8), strict=True):
            leads, color = first_leads(found, outcome.spikes), COLORS[name]
            look = {"marker": "o", "markersize": size, "fillstyle": "none", "linestyle": "none"}
            axes.plot(leads, outcome.signals.seed, color=color, label=SIGNALS[name], **look)
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="steps from alarm to trigger (-1: no alarm)", ylabel="seed")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.margins(y=0.2)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def decays(runs: xr.Dataset, others: xr.Dataset, b2: float, floor: float) -> Figure:
    """The loss with the configuration's β2 and with others, each seed a line."""
    curves = {b2: excess(runs, floor)[: others.sizes["seed"]]}
    for each in others.b2.values:
        curves[float(each)] = excess(others.sel(b2=each), floor)
    with plots.style():
        fig, panels = plots.figure(
            1, len(curves), height=2.2, sharex=True, sharey=True, squeeze=False
        )
        for axes, (each, losses) in zip(panels[0], curves.items(), strict=True):
            for loss, color in zip(losses, plots.OKABE_ITO * len(losses), strict=False):
                axes.plot(runs.step, loss, color=color, linewidth=0.8)
            axes.set(yscale="log", title=f"β2 = {each:g}", xlabel="step")
        panels[0, 0].set_ylabel("loss above its floor,\n10-step mean, each seed")
    return fig


def excess(runs: xr.Dataset, floor: float) -> Float[np.ndarray, "seed step"]:
    """The loss above its floor, averaged over 10 steps."""
    return np.maximum(each_step(runs, "loss", WINDOW) - floor, np.finfo(np.float32).tiny)
