"""The figures: what is left of the spikes, what becomes of the loss, and losses over time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.control.interventions.config import ADAM, OURS, Config
from experiments.control.interventions.ledger import Found
from experiments.control.interventions.scores import RISES, Scores
from experiments.control.interventions.selection import loss_ratio
from phenodl import plots

_COLUMNS = 3
_POINTS = 500


def overview(config: Config, found: Found) -> Figure:
    """Methods against tasks: spikes per run, and the last loss over plain Adam's."""
    names, adam = list(found), found[ADAM]
    spikes, ratios = np.full((2, len(names), len(config.tasks)), np.nan)
    for (row, column), _ in np.ndenumerate(spikes):
        task = config.tasks[column]
        if scores := found[names[row]].get(task):
            spikes[row, column] = scores.spikes.mean()
            ratios[row, column] = loss_ratio(scores, adam[task])[0]
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=0.9 + 0.2 * len(names), sharey=True)
        left.imshow(spikes + 0.1, norm=LogNorm(0.1, 100), cmap="Oranges", aspect="auto")
        right.imshow(ratios, norm=LogNorm(0.01, 100), cmap="RdBu_r", aspect="auto")
        _numbers(left, spikes, [["black" if each < 20 else "white" for each in r] for r in spikes])
        far = (ratios > 20) | (ratios < 0.05)
        _numbers(right, ratios, np.where(far, "white", "black").tolist())
        left.set(title=f"spikes ≥ {RISES[0]:g} decades per run")
        right.set(title="last loss / plain Adam's")
        left.set_yticks(range(len(names)), [label(name) for name in names])
        for name, text in zip(names, left.get_yticklabels(), strict=True):
            text.set_fontweight("bold" if name == OURS else "normal")
        for axes in (left, right):
            axes.set_xticks(range(len(config.tasks)), config.tasks, rotation=30)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        return fig


def curves(config: Config, found: Found, rivals: Sequence[str]) -> Figure:
    """The loss of plain Adam, of the controller and of some rivals, on every task."""
    names = [name for name in (ADAM, *rivals, OURS) if set(found.get(name, ())) >= {*config.tasks}]
    count = len(config.tasks)
    lines = -(-count // _COLUMNS)
    with plots.style():
        fig, grid = plots.figure(
            lines, min(count, _COLUMNS), height=0.5 + 1.7 * lines, squeeze=False
        )
        for axes, task in zip(grid.flat, config.tasks, strict=False):
            for name, color in zip(names, ("0.55", *plots.OKABE_ITO[1:]), strict=False):
                chosen = plots.OKABE_ITO[0] if name == OURS else color
                _curve(axes, found[name][task], color=chosen, label=label(name))
            axes.set(title=task, yscale="log")
        for axes in grid.flat[count:]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set(ylabel="loss above its floor")
        for axes in grid[-1]:
            axes.set(xlabel="step")
        fig.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return fig


def label(name: str) -> str:
    """A method's name as it is written."""
    return name.replace("_", " ")


def _curve(axes: Axes, scores: Scores, **line: str) -> None:
    curve = scores.curve[:, 0]
    every = max(1, curve.shape[-1] // _POINTS)
    whole = curve[:, : curve.shape[-1] // every * every]
    # A spike must not fall between two points: each shows the highest loss of the steps it covers.
    highest = whole.reshape(len(curve), -1, every).max(axis=-1)
    plots.band(axes, every * np.arange(highest.shape[-1]), highest, **line)


def _numbers(axes: Axes, values: np.ndarray, colors: Sequence[Sequence[str]]) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text = f"{value:.1e}" if 0 < value < 0.01 or value >= 1000 else f"{value:.3g}"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=5.5, color=colors[row][column]
        )
