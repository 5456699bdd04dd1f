"""The figures: how often the rank is low, by depth, and singular values along the flow."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.claims import share
from experiments.completion.depth.outcome import Outcome, Paths
from phenodl import plots


def rank(by_std: Mapping[float, Mapping[int, Outcome]]) -> Figure:
    """Shares of low rank by depth, with their intervals, and the effective ranks."""
    with plots.style():
        fig, axes = plots.figure(1, 3, height=2.2)
        _draw_shares(axes[0], by_std, "within_truth")
        axes[0].set(title="rank ≤ that of the ground truth", ylabel="share of converged runs")
        _draw_shares(axes[1], by_std, "minimal")
        axes[1].set(title="rank = minimum rank")
        std, outcomes = next(iter(by_std.items()))
        _draw_effective_ranks(axes[2], outcomes)
        axes[2].set(title=f"std {_short(std)}")
        axes[0].legend(title="std of the factors", title_fontsize=7, loc="lower right")
    return fig


def singular_values(along: Mapping[int, Paths], outcomes: Mapping[int, Outcome]) -> Figure:
    """Singular values of W along the flow of one instance, a panel per depth."""
    instance = _telling(along, outcomes)
    with plots.style():
        fig, axes = plots.figure(1, len(along), height=2.0, sharey=True)
        for axis, (depth, each) in zip(axes, along.items(), strict=True):
            time, values = each.time[instance], each.values[instance]
            for place, singular_value in enumerate(values.T):
                axis.plot(time, singular_value, label=f"σ{'₁₂₃₄'[place]}")
            seen = values[:, 0] > 0.01 * np.nanmax(values)
            begin = time[max(np.argmax(seen), 1)] / 3
            axis.set(
                title=f"depth {depth}",
                xlabel="flow time",
                xscale="log",
                xlim=(begin, np.nanmax(time)),
            )
            axis.xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel("singular values of W")
        axes[-1].legend(loc="upper left")
    return fig


def _draw_shares(axis: Axes, by_std: Mapping[float, Mapping[int, Outcome]], condition: str) -> None:
    all_depths = sorted({depth for outcomes in by_std.values() for depth in outcomes})
    for number, (std, outcomes) in enumerate(by_std.items()):
        depths = np.array(list(outcomes))
        met = [getattr(each, condition)[each.converged] for each in outcomes.values()]
        estimates = [share(int(each.sum()), each.size) for each in met]
        middle = np.array([each.measured for each in estimates])
        ends = np.array([each.interval for each in estimates]).T
        axis.errorbar(
            depths + 0.08 * (number - 0.5),
            middle,
            np.abs(ends - middle),
            marker="o",
            markersize=3,
            capsize=2,
            label=_short(std),
        )
    axis.set(ylim=(0, 1.03), xlabel="depth", xticks=all_depths)


def _draw_effective_ranks(axis: Axes, outcomes: Mapping[int, Outcome]) -> None:
    for depth, each in outcomes.items():
        values = np.sort(each.effective_rank[each.converged])
        axis.step(
            values, np.arange(1, len(values) + 1) / max(len(values), 1), label=f"depth {depth}"
        )
    axis.set(
        title="larger start",
        xlabel="effective rank",
        ylabel="share of runs up to it",
        ylim=(0, 1.03),
    )
    axis.legend(loc="lower right")


def _short(std: float) -> str:
    return f"{std:.0e}".replace("e-0", "e-")


def _telling(along: Mapping[int, Paths], outcomes: Mapping[int, Outcome]) -> int:
    """The instance that shows most: fitted at all depths, with the largest second value."""
    converged = np.logical_and.reduce([each.converged for each in outcomes.values()])
    last = np.nan_to_num(along[3].values, nan=-np.inf).max(1)
    return int(np.argmax(np.where(converged, last[:, 1] / last[:, 0], -1)))
