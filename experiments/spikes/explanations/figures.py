"""The figures of ``spikes-explanations``, a column per network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.spikes.explanations.branches import ARMS
from experiments.spikes.explanations.outcome import Outcome
from phenodl import plots

LABELS = {
    "control": "Adam",
    "frozen": "D kept",
    "decaying": "v decays alone",
}
"""The arms' names in the legends."""


def growth(outcomes: Mapping[str, Outcome]) -> Figure:
    """λ_max(Ĥ) from trough to trigger, and what it would be with one factor kept."""
    times = np.linspace(0, 1, 41)
    with plots.style():
        fig, grid = _grid(outcomes, 2, height=3.8)
        for (top, bottom), (name, found) in zip(grid.T, outcomes.items(), strict=True):
            seed, spike = np.nonzero(found.approaches.trigger >= 0)
            trough, crossing = (
                column[seed, spike] / found.every
                for column in (found.approaches.trough, found.approaches.crossing)
            )
            curves = {
                "D_t H_t": (found.ratio[0], plots.OKABE_ITO[7]),
                "only D moves: D_t H_t0": (found.kept[0], plots.OKABE_ITO[0]),
                "only H moves: D_t0 H_t": (found.kept[1], plots.OKABE_ITO[1]),
            }
            for label, (curve, color) in curves.items():
                pieces = _stretched(curve, seed, trough, crossing, times)
                plots.band(top, times, pieces, label=label, color=color)
            plots.threshold(top, 1.0, "2/η")
            top.set(title=name, xlabel="time from trough (0) to crossing (1)")
            shares = found.growth.diagonal / found.growth.total
            first = found.growth.first
            parts = [np.clip(shares[chosen], 0, 1.2) for chosen in (first, ~first)]
            colors = [plots.OKABE_ITO[4], plots.OKABE_ITO[2]]
            label = ["first spike of a run", "later spikes"]
            bins = np.linspace(0, 1.2, 31).tolist()
            bottom.hist(parts, bins, stacked=True, color=colors, label=label)
            bottom.axvline(0.5, color="0.35", linestyle="--", linewidth=0.8)
            bottom.set(xlabel="share of ln growth owed to D", xlim=(0, 1.2))
        grid[0, 0].set_ylabel("λ_max / (2/η)")
        grid[0, 0].legend(loc="lower right")
        grid[1, 0].set_ylabel("spikes")
        grid[1, 0].legend(loc="upper left")
    return fig


def sharpness(outcomes: Mapping[str, Outcome], before: int = 120, after: int = 40) -> Figure:
    """λ_max of H and of Ĥ around all triggers, both in units of 2/η."""
    with plots.style():
        fig, grid = _grid(outcomes, 1, height=2.4)
        for axes, (name, found) in zip(grid[0], outcomes.items(), strict=True):
            every = found.every
            steps = np.arange(-before // every, after // every + 1)
            seed, spike = np.nonzero(found.approaches.trigger >= 0)
            places = found.approaches.trigger[seed, spike][:, None] // every + steps
            inside = (places >= 0) & (places < found.ratio.shape[2])
            places = np.clip(places, 0, found.ratio.shape[2] - 1)
            curves = {"λ_max(Ĥ)": (found.ratio[0], 1), "λ_max(H)": (found.sharpness, 2)}
            for label, (curve, color) in curves.items():
                if not len(seed):
                    break
                pieces = np.where(inside, curve[seed[:, None], places], np.nan)
                color = plots.OKABE_ITO[color]
                plots.band(axes, every * steps, pieces, label=label, color=color)
            plots.threshold(axes, 1.0, "2/η")
            axes.set(title=f"{name}: {len(seed)} spikes", xlabel="steps from the trigger")
            axes.set(ylim=(0, 1.2))
        grid[0, 0].set_ylabel("λ_max / (2/η)")
        if grid[0, 0].lines[1:]:
            grid[0, 0].legend(loc="center left")
    return fig


def arms(outcomes: Mapping[str, Outcome]) -> Figure:
    """Loss and λ_max(Ĥ) of all arms, from the trough to beyond the control's trigger."""
    times = np.linspace(0, 1.3, 131)
    with plots.style():
        fig, grid = _grid(outcomes, 2, height=3.6, sharex="col")
        for (top, bottom), (name, found) in zip(grid.T, outcomes.items(), strict=True):
            branches = found.branches
            top.set(title=f"{name}: {len(branches.seed)} seeds")
            trigger = found.approaches.highest().trigger[branches.seed]
            for arm, key in enumerate(ARMS):
                line: dict[str, Any] = {"label": LABELS[key]}
                line["color"] = plots.OKABE_ITO[[7, 0, 1][arm]]
                loss = np.log10(found.loss[arm])
                loss = _stretched(loss, branches.seed, branches.begin, trigger, times)
                plots.band(top, times, loss - loss[:, :1], **line)
                begin, end = branches.begin / found.every, trigger / found.every
                ratio = _stretched(found.ratio[arm], branches.seed, begin, end, times)
                plots.band(bottom, times, ratio, **line)
            plots.threshold(bottom, 1.0, "2/η")
            bottom.set(xlabel="time from trough (0) to the control's trigger (1)")
        grid[0, 0].set_ylabel("log10 loss,\nfrom trough")
        grid[1, 0].set_ylabel("λ_max(Ĥ) / (2/η)")
        grid[0, 0].legend(loc="upper left")
    return fig


def _stretched(
    curve: np.ndarray, row: np.ndarray, begin: np.ndarray, end: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Pieces of the curves in some rows, time 0 being ``begin`` and 1 ``end`` of each.

    Without any row it is one of NaN, which is not drawn.
    """
    if not len(row):
        return np.full((1, len(times)), np.nan)
    places = begin[:, None] + times * (end - begin)[:, None]
    steps = np.arange(curve.shape[1])
    pieces = [np.interp(at, steps, curve[each]) for at, each in zip(places, row, strict=True)]
    return np.reshape(pieces, places.shape)


def _grid(
    outcomes: Mapping[str, Outcome], rows: int, height: float, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    return plots.figure(rows, len(outcomes), height=height, squeeze=False, **subplots)
