"""The figures: recovery over sample size and connectivity, and along the sample size alone."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from experiments.completion.scale.config import Config
from experiments.completion.scale.outcome import Outcome, connectivity_threshold, levels
from phenodl import plots
from phenodl.data.matrices import degrees_of_freedom

_SAMPLE_SIZE = "observed entries per degree of freedom"
_FREEDOM = {"color": "0.35", "linestyle": "--", "linewidth": 0.8}
_TIE = {"linestyle": ":", "linewidth": 1.2}


def phase_diagram(config: Config, outcome: Outcome) -> Figure:
    """One diagram for each side and rank: percentages recovered by sample size and connectivity."""
    with plots.style():
        fig, axes = plots.figure(1, len(config.sides), height=2.5, sharey=True, squeeze=False)
        diagrams = zip(axes[0], config.sides, config.ranks, config.repeats, strict=True)
        for axis, side, rank, repeats in diagrams:
            _draw_diagram(axis, config, _shares(config, outcome, outcome.whole, side, rank))
            axis.set_title(f"{_name(side, rank)}, n = {repeats}")
            for place, style in _thresholds(side, rank):
                axis.axvline(place, **style)
        axes[0, 0].set_yticks(range(len(levels(config))), [level.name for level in levels(config)])
        note = "cells: % of n instances recovered; ×: no such masks"
        fig.supxlabel(f"{_SAMPLE_SIZE}    ({note})", fontsize=8)
        lines = [axes[0, 0].plot([], [], **style)[0] for _, style in _thresholds(2, 1)]
        names = ["degrees of freedom 2rd − r²", "connectivity threshold d log d"]
        fig.legend(lines, names, loc="outside upper center", ncols=2)
    return fig


def recovery(config: Config, outcome: Outcome) -> Figure:
    """Uniform masks on the left; disconnected ones, whole and within components, on the right."""
    ratios = np.array(config.oversampling)
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.5, sharey=True)
        for number, (side, rank) in enumerate(zip(config.sides, config.ranks, strict=True)):
            line = {"color": plots.OKABE_ITO[number % len(plots.OKABE_ITO)], "markersize": 3}
            whole = _shares(config, outcome, outcome.whole, side, rank)
            blocks = _shares(config, outcome, outcome.blocks, side, rank)
            left.plot(ratios, whole[-1], marker="o", label=_name(side, rank), **line)
            right.plot(ratios, blocks[0], marker="o", **line)
            right.plot(ratios, whole[0], marker="x", linestyle=":", **line)
            _, (tie, style) = _thresholds(side, rank)
            left.axvline(tie, **(style | {"color": line["color"]}))
        left.axvline(1, **_FREEDOM)
        left.set(title="uniformly random masks", ylabel="share recovered", ylim=(-0.04, 1.04))
        right.set(title=f"{config.components} components")
        right.plot([], [], color="0.35", marker="o", markersize=3, label="within components")
        right.plot([], [], color="0.35", marker="x", linestyle=":", markersize=3, label="whole")
        left.plot([], [], color="0.35", **_TIE, label="d log d")
        left.plot([], [], **_FREEDOM, label="2rd − r²")
        for axis in (left, right):
            axis.set_xlabel(_SAMPLE_SIZE)
        fig.legend(loc="outside lower center", ncols=4)
    return fig


def _draw_diagram(
    axis: Axes, config: Config, shares: Float[np.ndarray, "levels oversampling"]
) -> None:
    ratios = np.array(config.oversampling)
    middles = (ratios[1:] + ratios[:-1]) / 2
    edges = np.concatenate([[2 * ratios[0] - middles[0]], middles, [2 * ratios[-1] - middles[-1]]])
    rows = np.arange(len(shares) + 1) - 0.5
    axis.pcolormesh(edges, rows, shares, cmap="Blues", vmin=0, vmax=1.4)
    for (row, column), value in np.ndenumerate(shares):
        text, color = ("×", "0.6") if np.isnan(value) else (f"{100 * value:.0f}", "black")
        place = float(edges[column] + edges[column + 1]) / 2
        shown = axis.text(place, row, text, ha="center", va="center", fontsize=5.5, color=color)
        shown.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
    axis.axhline(rows[-2], color="white", linewidth=2)  # uniform masks are no degree of their own
    axis.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])


def _shares(
    config: Config, outcome: Outcome, recovered: np.ndarray, side: int, rank: int
) -> Float[np.ndarray, "levels oversampling"]:
    """The share recovered in each cell of a diagram; NaN where no such masks exist."""
    shape = (len(levels(config)), len(config.oversampling))
    shares = np.full(shape, np.nan)
    for level, place in np.ndindex(shape):
        chosen = outcome.cell(side, rank, place, level)
        if chosen.any():
            shares[level, place] = recovered[chosen].mean()
    return shares


def _thresholds(side: int, rank: int) -> list[tuple[float, dict[str, Any]]]:
    """Degrees of freedom and d log d, per degree of freedom, with the looks of their lines."""
    tie = connectivity_threshold(side) / degrees_of_freedom(rank, side)
    return [(1.0, _FREEDOM), (tie, _TIE | {"color": plots.OKABE_ITO[1]})]


def _name(side: int, rank: int) -> str:
    return f"{side} × {side}, rank {rank}"
