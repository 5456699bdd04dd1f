"""The figures of ``spikes-digits``."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.spikes.digits.scores import SIGNALS, Foresight
from phenodl import plots
from phenodl.models.cnn import LAYERS
from phenodl.spikes.detect import Spikes

COLORS = {"curvature_a": plots.OKABE_ITO[0], "lambda_max_adam": plots.OKABE_ITO[1]}
"""The two signals that are compared."""


def curvatures(runs: xr.Dataset, spikes: Spikes) -> Figure:
    """Loss and curvatures of one run, its spikes shaded."""
    run, spike = _typical(runs, spikes)
    limit = float(run.threshold[0])
    with plots.style():
        fig, (top, middle, bottom) = plots.figure(3, 1, height=4.6, sharex=True)
        top.plot(run.step, run.loss, color="black")
        top.set(yscale="log", ylabel="loss")
        top.set_title(f"seed {int(run.seed)}; shaded: spikes")
        for name, color in COLORS.items():
            middle.plot(run.step, run[name], color=color, label=SIGNALS[name])
        middle.set(ylabel="preconditioned\nHessian Ĥ")
        middle.legend(ncols=2, loc="lower right")
        bottom.plot(run.step, run.lambda_max, color=plots.OKABE_ITO[2], label="λ_max(H)")
        bottom.plot(
            run.step, run.lambda_grad, color=plots.OKABE_ITO[3], label="H along the gradient"
        )
        bottom.set(yscale="log", xlabel="step", ylabel="Hessian H")
        bottom.legend(ncols=2, loc="lower right")
        for axes in (top, middle, bottom):
            _shade(axes, spike, run.sizes["step"])
        if limit > 0:  # it is NaN for a run that diverged at once, negative at huge weight decay
            middle.set_ylim(0, 1.5 * limit)
            bottom.set_ylim(min(0.1, limit), 3 * limit)
            for axes in (middle, bottom):
                plots.threshold(axes, limit, "2/η")
        bottom.set_xlim(0, run.sizes["step"])
    return fig


def around_trigger(runs: xr.Dataset, spikes: Spikes, before: int = 60, after: int = 40) -> Figure:
    """Median and quartiles over all spikes, aligned at their triggers."""
    steps = np.arange(-before, after + 1)
    with plots.style():
        fig, (top, bottom) = plots.figure(2, 1, height=3.6, sharex=True)
        loss = _aligned(np.log10(runs.loss), spikes, steps)
        top.set_title(f"{len(loss)} spikes of {runs.sizes['seed']} seeds: median and quartiles")
        if len(loss):
            plots.band(top, steps, loss - loss[:, before, None], color="black")
            for name, color in COLORS.items():
                pieces = _aligned(runs[name] / runs.threshold, spikes, steps)
                plots.band(bottom, steps, pieces, color=color, label=SIGNALS[name])
            bottom.legend(loc="upper left", ncols=2)
        plots.threshold(bottom, 1.0, "2/η")
        top.set(ylabel="log10 loss,\nfrom trigger")
        bottom.set(xlabel="steps from the trigger", ylabel="curvature / (2/η)")
        bottom.set(xlim=(-before, after), ylim=(None, 1.13))
    return fig


def lead_times(found: Mapping[str, Foresight]) -> Figure:
    """Histograms of the steps from alarm to trigger."""
    with plots.style():
        fig, axes = plots.figure(height=2.2)
        leads = {name: found[name].leads for name in COLORS}
        longest = max(np.nanmax(each, initial=10) for each in leads.values())
        bins = np.arange(0, longest + 4, 3) - 0.5
        for name, each in leads.items():
            finite = each[np.isfinite(each)]
            axes.hist(finite, bins, color=COLORS[name], alpha=0.7, label=SIGNALS[name])
        axes.set(xlabel="steps from alarm to trigger", ylabel="spikes")
        axes.legend()
    return fig


def second_moments(runs: xr.Dataset, spikes: Spikes) -> Figure:
    """v̂ against g² of each layer of one run, its spikes shaded."""
    run, spike = _typical(runs, spikes)
    curves = {"squared_gradient": ("g²", "#E69F00"), "second_moment": ("v̂", "#0072B2")}
    with plots.style():
        fig, grid = plots.figure(2, 2, height=3.6, sharex=True)
        for number, (axes, layer) in enumerate(zip(grid.flat, LAYERS, strict=True)):
            for name, (label, color) in curves.items():
                layers = run[name].transpose("step", ...)
                axes.plot(run.step, layers[:, number], color=color, label=label)
            _shade(axes, spike, run.sizes["step"])
            axes.set(yscale="log", title=layer, xlim=(0, run.sizes["step"]))
        for axes in grid[1]:
            axes.set_xlabel("step")
        for axes in grid[:, 0]:
            axes.set_ylabel("sum over the layer")
        grid[0, 0].legend(loc="lower left")
    return fig


def _typical(runs: xr.Dataset, spikes: Spikes) -> tuple[xr.Dataset, Spikes]:
    """The run with the median number of spikes, and its spikes."""
    counts = np.asarray(spikes.count)
    seed = int(np.argsort(counts, kind="stable")[len(counts) // 2])
    return runs.isel(seed=seed), Spikes(*(column[seed] for column in spikes))


def _shade(axes: Axes, spikes: Spikes, steps: int) -> None:
    """Shades the spikes of a run from trigger to end."""
    for first, last in zip(np.asarray(spikes.trigger), np.asarray(spikes.end), strict=True):
        if first >= 0:
            axes.axvspan(first, last if last >= 0 else steps, color="0.88", linewidth=0, zorder=0)


def _aligned(
    curves: xr.DataArray, spikes: Spikes, steps: np.ndarray
) -> Float[np.ndarray, "spike step"]:
    """Pieces of the curves around each trigger; NaN beyond the record."""
    values = curves.transpose("seed", "step").values
    seed, spike = np.nonzero(spikes.trigger >= 0)
    places = np.asarray(spikes.trigger)[seed, spike][:, None] + steps
    inside = (places >= 0) & (places < values.shape[1])
    pieces = values[seed[:, None], np.clip(places, 0, values.shape[1] - 1)]
    return np.where(inside, pieces, np.nan)
