"""The figures: how far from the flow each optimizer ends, and what becomes of the bias."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.claims import bootstrap
from experiments.completion.optimizer.outcome import Comparison
from phenodl import plots

_TITLES = {
    "gradient-descent": "adaptive descent",
    "constant-rate": "gradient descent",
    "momentum": "heavy ball",
    "mini-batches": "mini-batches",
    "adam": "Adam",
}
_COLOURS = dict(zip(_TITLES, plots.OKABE_ITO, strict=False))
_FLOOR = 1e-6  # shorter distances are those of data that determine the fit; drawn there


def distance(compared: Mapping[str, Comparison]) -> Figure:
    """Distance to the flow's solution against the setting, a median and a band over instances."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.4, sharey=True, width_ratios=[1, 1.7])
        for name, each in compared.items():
            plots.band(
                left if name == "gradient-descent" else right,
                each.settings,
                np.maximum(each.distance, _FLOOR),
                color=_COLOURS[name],
                marker="o",
                markersize=3,
                label=_TITLES[name],
            )
        for axis, where in ((left, "lower right"), (right, "lower left")):
            axis.set(xscale="log", yscale="log")
            axis.legend(loc=where)
        factors = compared["gradient-descent"].settings
        left.set_xticks(factors, [f"{factor:g}" for factor in factors])
        left.minorticks_off()
        left.set(xlabel="step × bound on curvature", ylabel="relative distance to the flow's W")
        right.set(xlabel="learning rate / (1 - momentum)")
    return fig


def bias(compared: Mapping[str, Comparison]) -> Figure:
    """Changes against the flow, instance by instance: share of minimum rank, nuclear excess."""
    rows = [(name, place) for name, each in compared.items() for place in range(len(each.settings))]
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.9, sharey=True)
        for height, (name, place) in enumerate(rows):
            each = compared[name]
            counted = each.counted[:, place]
            _draw_mean(left, height, each.rank_gain[counted, place], _COLOURS[name])
            _draw_mean(right, height, each.nuclear_gain[counted, place], _COLOURS[name])
        names = [f"{_TITLES[name]} {compared[name].settings[place]:g}" for name, place in rows]
        left.set_yticks(range(len(rows)), names)
        left.invert_yaxis()
        fig.suptitle(
            "numbers: step × bound on curvature (adaptive descent), learning rate / (1 - momentum)",
            fontsize=7,
        )
        left.set(xlabel="share of minimum rank\nless that of the flow")
        right.set(xlabel="mean nuclear excess\nless that of the flow")
        for axis in (left, right):
            axis.axvline(0, color="0.35", linestyle="--", linewidth=0.8)
    return fig


def _draw_mean(axis: Axes, height: int, values: np.ndarray, colour: str) -> None:
    """A mean with its interval."""
    estimate = bootstrap(values, np.mean)
    axis.plot(estimate.interval, [height, height], color=colour)
    axis.plot(estimate.measured, height, "o", color=colour, markersize=3)
