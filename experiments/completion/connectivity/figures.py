"""The figures: learned against minimum rank, and the nuclear excess, by connectivity and start."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.claims import share
from experiments.completion.connectivity.outcome import (
    MET,
    MINIMAL,
    ConnectedOutcome,
    Outcome,
    Reference,
)
from phenodl import plots
from phenodl.completion import CONNECTIVITIES

_TITLES = {name: name for name in CONNECTIVITIES} | {"other": "other disconnected"}
_SMALLEST, _LARGEST = 1e-14, 10.0  # an excess below the first is rounding, and is drawn there
_SMALLEST_STD = 1e-16  # below it the excess is rounding


def rank(
    known: Reference, outcome: Outcome, stds: Sequence[float], starts: Sequence[int]
) -> Figure:
    """Learned rank against minimum rank: how many runs have each pair, per class and start."""
    with plots.style():
        shape = (len(starts), len(CONNECTIVITIES))
        height = 0.4 + 2.0 * len(starts)
        fig, axes = plots.figure(*shape, height=height, sharex=True, sharey=True, squeeze=False)
        sides = int(outcome.rank.max()), int(known.minimum_rank.max())
        for row, start in zip(axes, starts, strict=True):
            for axis, name in zip(row, CONNECTIVITIES, strict=True):
                chosen = known.of_class(name) & outcome.converged[:, start]
                counts = np.zeros(sides, int)
                pair = outcome.rank[chosen, start] - 1, known.minimum_rank[chosen] - 1
                np.add.at(counts, pair, 1)
                _draw_counts(axis, counts)
                axis.set_title(f"{_TITLES[name]} (n = {chosen.sum()})")
            row[0].set_ylabel(f"learned rank, std {stds[start]:g}")
        for axis in axes[-1]:
            axis.set_xlabel("minimum rank")
        fig.suptitle(
            "number of runs; shade: their share of the column; frame: the rank is minimal",
            fontsize=7,
        )
    return fig


def nuclear_norm(known: Reference, outcome: Outcome, stds: Sequence[float], start: int) -> Figure:
    """The distribution of the excess over the minimum norm per class, and its fall with std."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.5)
        _draw_distributions(left, known, outcome, start)
        left.set_xlabel(f"relative excess of nuclear norm, std {stds[start]:g}")
        chosen = known.of_class("complete bipartite") & outcome.converged.all(axis=1)
        if chosen.any():
            order = np.argsort(stds)
            excess = np.maximum(outcome.nuclear_excess[chosen][:, order], _SMALLEST)
            _draw_rate(right, np.array(stds)[order], excess)
        right.set(
            xlabel="std of the initial factors",
            ylabel="relative excess of nuclear norm",
        )
    return fig


def small_starts(connected: ConnectedOutcome, stds: Sequence[float], start: int) -> Figure:
    """How often connected data lead to the minimum rank from smaller starts, and what fails."""
    places = np.arange(len(stds))
    order = np.argsort(stds)[::-1]
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.9)
        for label, members in {
            "all connected": np.ones(len(connected.condition), bool),
            "flow on each $\\Omega_k$ ends at the best fit": connected.condition == MET,
            "it does not, or still moves": connected.condition != MET,
        }.items():
            _draw_shares(left, places, connected, members, order, f"{label} (n = {members.sum()})")
        left.set(ylabel="share with minimum rank, 95 % interval", ylim=(0, 1.04))
        left.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0))

        last = order[-1]
        missed = connected.converged[:, last] & ~connected.minimal_rank[:, last]
        growth = connected.largest / connected.largest[:, [start]]
        for label, members in {"all others": ~missed, "rank missed at the end": missed}.items():
            if members.any():
                text = f"{label} (n = {members.sum()})"
                drawn = growth[members][:, order]
                plots.band(right, places, drawn, marker="o", markersize=3, label=text)
        right.set(yscale="log", ylabel=f"$σ_1$ of W over that from {stds[start]:g}, quartiles")
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("{x:g}")
        right.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0))
        for axis in (left, right):
            axis.set_xticks(places, [f"{stds[start]:g}" for start in order], rotation=60)
            axis.set_xlabel("std of the initial factors")
    return fig


def _draw_shares(
    axis: Axes,
    places: Int[np.ndarray, " stds"],
    connected: ConnectedOutcome,
    members: Bool[np.ndarray, " instances"],
    order: Int[np.ndarray, " stds"],
    label: str,
) -> None:
    """The share of converged members with the minimum rank, and its interval, per start."""
    counted = connected.converged[:, order] & members[:, None]
    hits = (connected.minimal_rank[:, order] & counted).sum(0)
    shares = [share(*pair) for pair in zip(hits, counted.sum(0), strict=True)]
    low, high = np.array([each.interval for each in shares]).T
    measured = [each.measured for each in shares]
    (line,) = axis.plot(places, measured, marker="o", markersize=3, label=label)
    axis.fill_between(places, low, high, color=line.get_color(), alpha=0.25, linewidth=0)


def _draw_counts(axis: Axes, counts: Int[np.ndarray, "learned minimum"]) -> None:
    share = counts / np.maximum(counts.sum(0), 1)
    axis.imshow(share, origin="lower", cmap="Blues", vmin=0, vmax=1.5)
    for (learned, minimum), count in np.ndenumerate(counts):
        if count:
            axis.text(minimum, learned, str(count), ha="center", va="center")
    for value in range(min(counts.shape)):
        corner = (value - 0.47, value - 0.47)
        frame = {"fill": False, "edgecolor": plots.OKABE_ITO[1], "linewidth": 1.2}
        axis.add_patch(Rectangle(corner, 0.94, 0.94, **frame))
    for ticks, length in ((axis.set_yticks, counts.shape[0]), (axis.set_xticks, counts.shape[1])):
        ticks(range(length), [str(value + 1) for value in range(length)])


def _draw_distributions(axis: Axes, known: Reference, outcome: Outcome, start: int) -> None:
    for name in CONNECTIVITIES:
        chosen = known.of_class(name) & outcome.converged[:, start]
        values = np.sort(np.maximum(outcome.nuclear_excess[chosen, start], _SMALLEST))
        share = np.minimum(np.arange(len(values) + 2) / max(len(values), 1), 1)
        axis.step([_SMALLEST, *values, _LARGEST], share, where="post", label=_TITLES[name])
    axis.axvline(MINIMAL, color="0.35", linestyle="--", linewidth=0.8)
    axis.annotate(
        "minimal",
        (MINIMAL, 0.55),
        xytext=(-3, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7,
        color="0.35",
    )
    axis.set(
        xscale="log",
        xlim=(_SMALLEST / 3, _LARGEST),
        ylim=(0, 1.04),
        ylabel="share of runs up to this excess",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(0.03, 0.94), frameon=True, edgecolor="none")


def _draw_rate(
    axis: Axes, stds: Float[np.ndarray, " stds"], excess: Float[np.ndarray, "instances stds"]
) -> None:
    shown = stds >= _SMALLEST_STD
    stds, excess = stds[shown], excess[:, shown]
    plots.band(axis, stds, excess, marker="o", markersize=3, label="complete bipartite")
    middle = np.argmin(np.abs(np.log(stds / 1e-2)))
    reference = np.median(excess[:, middle]) * (stds / stds[middle]) ** 2
    axis.plot(stds, np.maximum(reference, _SMALLEST), "k:", label="slope 2, down to rounding")
    axis.set(xscale="log", yscale="log")
    axis.legend(loc="upper left")
