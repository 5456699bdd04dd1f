"""The figures: learned against minimum rank, and the nuclear excess, by connectivity."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.completion.connectivity.outcome import MINIMAL, Outcome
from phenodl import plots
from phenodl.completion import CONNECTIVITIES

_TITLES = {name: name for name in CONNECTIVITIES} | {"other": "other disconnected"}
_SMALLEST, _LARGEST = 1e-14, 10.0  # an excess below the first is rounding, and is drawn there


def rank(outcome: Outcome) -> Figure:
    """Learned rank against minimum rank: how many runs have each pair, per class."""
    with plots.style():
        fig, axes = plots.figure(1, len(CONNECTIVITIES), height=2.5, sharey=True)
        shape = int(outcome.rank.max()), int(outcome.minimum_rank.max())
        for axis, name in zip(axes, CONNECTIVITIES, strict=True):
            chosen = outcome.of_class(name)
            counts = np.zeros(shape, int)
            np.add.at(counts, (outcome.rank[chosen] - 1, outcome.minimum_rank[chosen] - 1), 1)
            _draw_counts(axis, counts)
            axis.set(title=f"{_TITLES[name]} (n = {chosen.sum()})", xlabel="minimum rank")
        axes[0].set_ylabel("learned rank")
        fig.suptitle(
            "number of runs; shade: their share of the column; frame: the rank is minimal",
            fontsize=7,
        )
    return fig


def nuclear_norm(
    outcome: Outcome,
    stds: Float[np.ndarray, " stds"],
    excess: Float[np.ndarray, "instances stds"],
) -> Figure:
    """The distribution of the excess over the minimum norm per class, and its fall with std."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.5)
        _draw_distributions(left, outcome)
        if len(excess):
            order = np.argsort(stds)
            _draw_rate(right, stds[order], excess[:, order])
        right.set(
            xlabel="std of the initial factors",
            ylabel="relative excess of nuclear norm",
        )
    return fig


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


def _draw_distributions(axis: Axes, outcome: Outcome) -> None:
    for name in CONNECTIVITIES:
        values = np.sort(np.maximum(outcome.nuclear_excess[outcome.of_class(name)], _SMALLEST))
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
        xlabel="relative excess of nuclear norm",
        ylabel="share of runs up to this excess",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(0.03, 0.94), frameon=True, edgecolor="none")


def _draw_rate(
    axis: Axes, stds: Float[np.ndarray, " stds"], excess: Float[np.ndarray, "instances stds"]
) -> None:
    plots.band(axis, stds, excess, marker="o", markersize=3, label="complete bipartite")
    reference = np.median(excess[:, -1]) * (stds / stds[-1]) ** 2
    axis.plot(stds, reference, "k:", label="slope 2")
    axis.set(xscale="log", yscale="log")
    axis.legend(loc="upper left")
