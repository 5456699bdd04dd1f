"""The figures that the experiments on loss spikes have in common; spikes are shaded."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.spikes.scores import SIGNALS, Foresight, each_step
from phenodl import plots
from phenodl.spikes.detect import Spikes

COLORS = {
    "curvature_a": plots.OKABE_ITO[0],
    "lambda_max_adam": plots.OKABE_ITO[1],
    "curvature_b": plots.OKABE_ITO[2],
    "curvature_c": plots.OKABE_ITO[3],
    "lambda_max": plots.OKABE_ITO[2],
    "lambda_grad": plots.OKABE_ITO[3],
}
"""Of the signals. The two pairs that share a colour never share axes."""

MOMENTS = {"squared_gradient": ("g²", "#E69F00"), "second_moment": ("v̂", "#0072B2")}
"""Labels and colours."""

PAIR = ("curvature_a", "lambda_max_adam")
"""The two signals that the paper holds against each other."""


def curvatures(
    runs: xr.Dataset,
    spikes: Spikes,
    *,
    signals: Sequence[str] = PAIR,
    width: int = 1,
    floor: float = 0.0,
) -> Figure:
    """Loss and curvatures of a typical run.

    Args:
        runs: with ``loss``, ``threshold`` and the signals; ``lambda_max`` and ``lambda_grad`` of
            the Hessian itself get axes of their own if they are there.
        spikes: of the runs.
        signals: curvatures of Ĥ.
        width: steps over which they are averaged.
        floor: the lowest loss there can be.
    """
    run, spike = typical(runs, spikes)
    limit = float(run.threshold[0])
    plain = {
        name: label
        for name, label in (("lambda_max", "λ_max(H)"), ("lambda_grad", "H along the gradient"))
        if name in run
    }
    with plots.style():
        count = 3 if plain else 2
        fig, panels = plots.figure(count, 1, height=1.55 * count, sharex=True)
        panels[0].plot(run.step, run.loss - floor, color="black")
        panels[0].set(yscale="log", ylabel="loss above its floor" if floor else "loss")
        panels[0].set_title(f"seed {int(run.seed)}; shaded: spikes")
        for name in signals:
            panels[1].plot(
                run.step, _curve(run, name, width), color=COLORS[name], label=SIGNALS[name]
            )
        panels[1].set(ylabel="preconditioned\nHessian Ĥ")
        panels[1].legend(ncols=2, loc="upper left")
        if plain:
            for name, label in plain.items():
                panels[2].plot(run.step, _curve(run, name, width), color=COLORS[name], label=label)
            panels[2].set(yscale="log", ylabel="Hessian H")
            panels[2].legend(ncols=2, loc="lower right")
        for axes in panels:
            shade(axes, spike, run.sizes["step"])
        if limit > 0:  # it is NaN for a run that diverged at once, negative at huge weight decay
            panels[1].set_ylim(0, 1.5 * limit)
            if plain:
                panels[2].set_ylim(min(0.1, limit), 3 * limit)
            for axes in panels[1:]:
                plots.threshold(axes, limit, "2/η")
        panels[-1].set(xlim=(0, run.sizes["step"]), xlabel="step")
    return fig


def around_trigger(
    runs: xr.Dataset,
    spikes: Spikes,
    *,
    signals: Sequence[str] = PAIR,
    before: int = 60,
    after: int = 40,
    width: int = 1,
    floor: float = 0.0,
) -> Figure:
    """Median and quartiles over all spikes, aligned at their triggers."""
    steps = np.arange(-before, after + 1)
    with plots.style():
        fig, (top, bottom) = plots.figure(2, 1, height=3.6, sharex=True)
        logs = np.log10(np.maximum(each_step(runs, "loss") - floor, np.finfo(np.float32).tiny))
        limit = each_step(runs, "threshold")
        curves = [
            (each_step(runs, name, width) / limit, COLORS[name], SIGNALS[name]) for name in signals
        ]
        draw_around_trigger(top, bottom, logs, curves, spikes, steps)
        plots.threshold(bottom, 1.0, "2/η")
        top.set(ylabel="log10 loss,\nfrom trigger")
        bottom.set(ylabel="curvature / (2/η)")
        bottom.set_ylim(top=1.13 * max(1.0, bottom.get_ylim()[1]))
    return fig


def draw_around_trigger(
    top: Axes,
    bottom: Axes,
    logs: Float[np.ndarray, "seed step"],
    curves: Sequence[tuple[Float[np.ndarray, "seed step"], str, str]],
    spikes: Spikes,
    steps: np.ndarray,
) -> None:
    """Draws the loss, in decades from the trigger, above signals; medians and quartiles.

    Args:
        top: axes of the loss.
        bottom: axes of the signals.
        logs: log10 of the loss.
        curves: each signal with its colour and label.
        spikes: of the same runs.
        steps: from the trigger, 0 among them.
    """
    loss = aligned(logs, spikes, steps)
    top.set_title(f"{len(loss)} spikes of {len(logs)} seeds: median and quartiles")
    if len(loss):
        plots.band(top, steps, loss - loss[:, steps == 0], color="black")
        for values, color, label in curves:
            plots.band(bottom, steps, aligned(values, spikes, steps), color=color, label=label)
        bottom.legend(loc="upper left", ncols=2)
    bottom.set(xlabel="steps from the trigger", xlim=(steps[0], steps[-1]))


def lead_times(found: Mapping[str, Foresight], signals: Sequence[str] = PAIR) -> Figure:
    """Histograms of the steps from alarm to trigger."""
    with plots.style():
        fig, axes = plots.figure(height=2.2)
        leads = {name: found[name].leads for name in signals}
        longest = max(np.nanmax(each, initial=10) for each in leads.values())
        bins = np.arange(0, longest + 4, max(3, longest // 40)) - 0.5
        for name, each in leads.items():
            finite = each[np.isfinite(each)]
            axes.hist(finite, bins, color=COLORS[name], alpha=0.7, label=SIGNALS[name])
        axes.set(xlabel="steps from alarm to trigger", ylabel="spikes")
        axes.legend()
    return fig


def second_moments(runs: xr.Dataset, spikes: Spikes, layers: Sequence[str]) -> Figure:
    """v̂ against g² of each layer of a typical run."""
    run, spike = typical(runs, spikes)
    rows = (len(layers) + 1) // 2
    with plots.style():
        fig, grid = plots.figure(
            rows, min(2, len(layers)), height=0.4 + 1.6 * rows, sharex=True, squeeze=False
        )
        for axes in grid.flat[len(layers) :]:
            axes.axis("off")
        for number, (axes, layer) in enumerate(zip(grid.flat, layers, strict=False)):
            for name, (label, color) in MOMENTS.items():
                values = run[name].transpose("step", ...)
                axes.plot(run.step, values[:, number], color=color, label=label)
            shade(axes, spike, run.sizes["step"])
            axes.set(yscale="log", title=layer, xlim=(0, run.sizes["step"]))
        for axes in grid[-1]:
            axes.set_xlabel("step")
        for axes in grid[:, 0]:
            axes.set_ylabel("sum over the layer")
        grid[0, 0].legend(loc="lower left")
    return fig


def alignment(runs: xr.Dataset, spikes: Spikes, before: int = 60, after: int = 40) -> Figure:
    """How far the gradient lies along the top eigenvector of Ĥ, around the triggers."""
    steps = np.arange(-before, after + 1)
    with plots.style():
        fig, axes = plots.figure(height=2.2)
        pieces = aligned(each_step(runs, "alignment"), spikes, steps)
        if len(pieces):
            plots.band(axes, steps, pieces, color="black")
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set(xlim=(-before, after), ylim=(0, 1.02), xlabel="steps from the trigger")
        axes.set_ylabel("|cos| of gradient\nand top eigenvector of Ĥ")
        axes.set_title(f"{len(pieces)} spikes of {runs.sizes['seed']} seeds: median and quartiles")
    return fig


def typical(runs: xr.Dataset, spikes: Spikes) -> tuple[xr.Dataset, Spikes]:
    """The run with the median number of spikes, and its spikes."""
    seed = typical_seed(spikes)
    return runs.isel(seed=[seed]).squeeze("seed"), Spikes(*(column[seed] for column in spikes))


def typical_seed(spikes: Spikes) -> int:
    """The place of the run with the median number of spikes."""
    counts = np.asarray(spikes.count)
    return int(np.argsort(counts, kind="stable")[len(counts) // 2])


def shade(axes: Axes, spikes: Spikes, steps: int) -> None:
    """Shades the spikes of a run from trigger to end."""
    for first, last in zip(np.asarray(spikes.trigger), np.asarray(spikes.end), strict=True):
        if first >= 0:
            axes.axvspan(first, last if last >= 0 else steps, color="0.88", linewidth=0, zorder=0)


def aligned(
    values: Float[np.ndarray, "seed step"], spikes: Spikes, steps: np.ndarray
) -> Float[np.ndarray, "spike step"]:
    """Pieces of the curves around each trigger; NaN beyond the record."""
    seed, spike = np.nonzero(spikes.trigger >= 0)
    places = np.asarray(spikes.trigger)[seed, spike][:, None] + steps
    inside = (places >= 0) & (places < values.shape[1])
    pieces = values[seed[:, None], np.clip(places, 0, values.shape[1] - 1)]
    return np.where(inside, pieces, np.nan)


def _curve(run: xr.Dataset, name: str, width: int) -> Float[np.ndarray, " step"]:
    """One signal of one run at every step."""
    return each_step(run.expand_dims("seed"), name, width)[0]
