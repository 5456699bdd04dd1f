"""The figures of ``spikes-layers``."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from experiments.spikes.layers.arms import ARMS, PATIENCE, Spike
from experiments.spikes.scores import each_step
from phenodl import plots

LABELS = {
    "control": "Adam",
    "heaviest": "v̂ kept in the layer of most mass",
    "others": "v̂ kept in all others",
    "earliest": "v̂ kept in the layer first below .1",
    "later": "v̂ kept in all others",
}
"""The arms' names in the legends."""


def moments(control: xr.Dataset, spike: Spike, layers: Sequence[str]) -> Figure:
    """g² against v̂ of each layer before the spike, and where the unstable eigenvector lies."""
    chosen = np.flatnonzero(spike.trough >= 0)
    with plots.style():
        fig, (top, bottom) = plots.figure(2, 1, height=3.8, sharex=False)
        if chosen.size:
            place = chosen[0]
            begin, end = spike.trough[place] - 20, spike.trigger[place] + 20
            run = control.isel(seed=place, step=slice(max(begin, 0), end))
            for number, layer in enumerate(layers):
                ratio = run.squared_gradient / run.second_moment.rename(
                    second_moment_0="squared_gradient_0"
                )
                values = ratio.transpose("step", ...).values[:, number]
                top.plot(run.step, values, color=plots.OKABE_ITO[number], label=layer)
            top.axvline(spike.crossing[place], color="0.6", linewidth=0.8)
            top.set_title(f"seed {int(control.seed[place])}; line: λ_max(Ĥ) passes 2/η")
            top.legend(loc="upper left", ncols=len(layers))
            masses = [spike.mass[chosen, number] for number in range(len(layers))]
            jitter = np.random.default_rng(0).uniform(-0.15, 0.15, len(chosen))
            for number, mass in enumerate(masses):
                bottom.plot(number + jitter, mass, "o", markersize=3, alpha=0.7)
        plots.threshold(top, 0.1, ".1")
        top.set(yscale="log", ylabel="g² / v̂", xlabel="step")
        bottom.set(ylim=(0, 1), ylabel="share of the eigenvector", xlim=(-0.5, len(layers) - 0.5))
        bottom.set_xticks(range(len(layers)), layers)
        bottom.set_title(f"when λ_max(Ĥ) passes 2/η: {chosen.size} spikes, one of each seed")
    return fig


def arms(runs: xr.Dataset, spike: Spike) -> Figure:
    """Loss and λ_max(Ĥ) of the arms, in units of the control's way from trough to trigger."""
    chosen = np.flatnonzero(spike.trough >= 0)
    places = np.linspace(0, PATIENCE, 76)
    pairs = ((0, 1, 2), (0, 3, 4))
    with plots.style():
        fig, grid = plots.figure(2, 2, height=4.0, sharex=True, sharey="row")
        for (top, bottom), group in zip(grid.T, pairs, strict=True):
            for color, arm in zip((7, 0, 1), group, strict=True):
                run = runs.isel(arm=arm)
                loss = np.log10(run.loss.transpose("seed", "step").values)
                ratio = each_step(run, "lambda_max_adam") / each_step(run, "threshold")
                line = {"color": plots.OKABE_ITO[color], "label": LABELS[ARMS[arm]]}
                losses = _warped(loss, spike, chosen, places)
                plots.band(top, places, losses - losses[:, :1], **line)
                plots.band(bottom, places, _warped(ratio, spike, chosen, places), **line)
            plots.threshold(bottom, 1.0, "2/η")
            top.legend(loc="lower left", bbox_to_anchor=(0, 1))
            bottom.set(xlabel="time: 0 trough, 1 control's trigger")
        grid[0, 0].set_ylabel("log10 loss,\nfrom trough")
        grid[1, 0].set_ylabel("λ_max(Ĥ) / (2/η)")
    return fig


def _warped(curve: np.ndarray, spike: Spike, chosen: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Of each seed its curve from the trough on, time in units of the way to the trigger."""
    if not chosen.size:  # one row that is not drawn
        return np.full((1, len(places)), np.nan)
    steps = np.arange(curve.shape[1])
    pieces = [
        np.interp(
            spike.trough[seed] + places * (spike.trigger[seed] - spike.trough[seed]),
            steps,
            curve[seed],
        )
        for seed in chosen
    ]
    return np.reshape(pieces, (len(pieces), len(places)))
