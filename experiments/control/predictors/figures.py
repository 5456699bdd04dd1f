"""The figures of ``control-predictors``: a panel per training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.control.predictors.ledger import over_seeds
from experiments.control.predictors.measure import Scored
from experiments.control.predictors.names import LABELS, REFERENCE
from experiments.spikes.figures import draw_around_trigger, shade, typical
from experiments.spikes.scores import Foresight, each_step
from phenodl import plots

COLUMNS = 3  # of panels

BEFORE, AFTER = 60, 40
"""Steps around the trigger that are shown."""

_COLOR = plots.OKABE_ITO[0]
_DOT: dict[str, Any] = {"color": _COLOR, "marker": "o", "markersize": 3.5}
_RANGE: dict[str, Any] = {"color": _COLOR, "linewidth": 2.5, "alpha": 0.35}
_CHANCE: dict[str, Any] = {"color": "0.5", "marker": "|", "markersize": 7}


def areas(scored: Mapping[str, Scored]) -> Figure:
    """AUC of each predictor: the mean over seeds with its interval, and what chance achieves."""
    with plots.style():
        fig, panels = _lists(scored)
        for axes, each in zip(panels, scored.values(), strict=True):
            for name, found in each.found.items():
                line = LABELS[name]
                (mean, ends), _ = over_seeds(found.auc, np.mean)
                (chance, _), _ = over_seeds(found.chance_auc, np.mean)
                axes.plot(ends, [line, line], **_RANGE)
                axes.plot([mean], [line], **_DOT)
                axes.plot([chance], [line], **_CHANCE)
            (reference, _), _ = over_seeds(each.found[REFERENCE].auc, np.mean)
            axes.axvline(reference, color="0.35", linestyle="--", linewidth=0.8, zorder=0)
            axes.set_xlim(-0.02, 1.03)
        fig.supxlabel("AUC: mean over seeds and interval; tick: by chance; dashed: A", fontsize=8)
    return fig


def leads(scored: Mapping[str, Scored]) -> Figure:
    """Steps from each predictor's alarm to the trigger: median and quartiles over all spikes.

    A circle is hollow where fewer than nine tenths of the spikes are foreseen.
    """
    with plots.style():
        fig, panels = _lists(scored)
        for axes, each in zip(panels, scored.values(), strict=True):
            for name, found in each.found.items():
                _draw_leads(axes, LABELS[name], found, each.leads_by_chance[name])
            reference = each.found[REFERENCE].leads
            if np.isfinite(reference).any():
                middle = np.nanmedian(reference)
                axes.axvline(middle, color="0.35", linestyle="--", linewidth=0.8, zorder=0)
            axes.set_xscale("symlog", linthresh=10)
            axes.set_xlim(left=-0.7)
            axes.set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1000"])
            axes.minorticks_off()
        fig.supxlabel(
            "steps from alarm to trigger: median and quartiles; tick: by chance; dashed: A;\n"
            "hollow: recall below 0.9",
            fontsize=8,
        )
    return fig


def _draw_leads(axes: Axes, line: str, found: Foresight, by_chance: np.ndarray) -> None:
    if by_chance.size:
        axes.plot([np.median(by_chance)], [line], **_CHANCE)
    steps = found.leads[np.isfinite(found.leads)]
    if steps.size:
        low, median, high = np.quantile(steps, [0.25, 0.5, 0.75])
        most = found.counts.foreseen.sum() >= 0.9 * found.counts.spikes.sum()
        axes.plot([low, high], [line, line], **_RANGE)
        axes.plot([median], [line], markerfacecolor=_COLOR if most else "white", **_DOT)


def examples(scored: Mapping[str, Scored], names: Sequence[str]) -> Figure:
    """The highest spike of a typical run of each training, under some of the signals."""
    with plots.style():
        fig, pairs = _pairs(scored)
        for (top, bottom), (task, each) in zip(pairs, scored.items(), strict=True):
            run, spikes = typical(each.runs, each.spikes)
            top.set_title(f"{task}, seed {int(run.seed)}")
            if not spikes.count:
                continue
            trigger = int(spikes.trigger[np.nanargmax(spikes.height)])
            first = max(0, trigger - 2 * BEFORE)
            shown = np.arange(first, min(run.sizes["step"], trigger + 2 * AFTER))
            top.plot(shown, _log_excess(run.loss.values, each.floor)[shown], color="black")
            for place, name in enumerate(names):
                values = each_step(run.expand_dims("seed"), name, each.width)[0]
                color = plots.OKABE_ITO[place]
                line = {"color": color, "linewidth": 2.0 - place}  # both are seen where they agree
                bottom.plot(shown, values[shown], label=LABELS[name], **line)
            for axes in (top, bottom):
                shade(axes, spikes, run.sizes["step"])
                axes.set_xlim(shown[0], shown[-1])
            plots.threshold(bottom, 1.0, "")
            bottom.set(ylim=(0, 1.5), xlabel="step")
        _finish(fig, pairs, "log10 loss")
    return fig


def around_triggers(scored: Mapping[str, Scored], names: Sequence[str]) -> Figure:
    """The same around all spikes, aligned at their triggers: medians and quartiles."""
    steps = np.arange(-BEFORE, AFTER + 1)
    with plots.style():
        fig, pairs = _pairs(scored)
        for (top, bottom), (task, each) in zip(pairs, scored.items(), strict=True):
            logs = _log_excess(each_step(each.runs, "loss"), each.floor)
            curves = [
                (each_step(each.runs, name, each.width), plots.OKABE_ITO[place], LABELS[name])
                for place, name in enumerate(names)
            ]
            draw_around_trigger(top, bottom, logs, curves, each.spikes, steps)
            top.set_title(f"{task}: {int(each.spikes.count.sum())} spikes")
            bottom.set(ylim=(0, 1.5), xlabel="steps from trigger")
            plots.threshold(bottom, 1.0, "")
            if legend := bottom.get_legend():
                legend.remove()
        _finish(fig, pairs, "log10 loss,\nfrom trigger")
    return fig


def _log_excess(loss: np.ndarray, floor: float) -> np.ndarray:
    return np.log10(np.maximum(loss - floor, np.finfo(np.float32).tiny))


def _lists(scored: Mapping[str, Scored]) -> tuple[Figure, list[Axes]]:
    """A panel per training in which every predictor has a line, the first one on top."""
    found = {name for each in scored.values() for name in each.found}
    labels = [label for name, label in LABELS.items() if name in found]
    rows = -(-len(scored) // COLUMNS)
    height = 0.5 + rows * (0.35 + 0.145 * len(labels))
    fig, grid = plots.figure(rows, COLUMNS, height=height, sharey=True, squeeze=False)
    panels = list(grid.flat)
    panels[0].plot([0.5] * len(labels), labels, linestyle="none")  # the order of the names
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    for axes, task in zip(panels, scored, strict=False):
        axes.set_title(task)
        axes.grid(axis="y", color="0.92", linewidth=0.5)
        axes.set_axisbelow(True)
    for axes in panels[len(scored) :]:
        axes.set_axis_off()
    return fig, panels[: len(scored)]


def _pairs(scored: Mapping[str, Scored]) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A pair of panels per training, one above the other."""
    rows = -(-len(scored) // COLUMNS)
    fig, grid = plots.figure(2 * rows, COLUMNS, height=0.3 + 2.5 * rows, squeeze=False)
    pairs = list(zip(grid[::2].flat, grid[1::2].flat, strict=True))
    for pair in pairs[len(scored) :]:
        for axes in pair:
            axes.set_axis_off()
    return fig, pairs[: len(scored)]


def _finish(fig: Figure, pairs: Sequence[tuple[Axes, Axes]], quantity: str) -> None:
    """Names the axes on the left, and the signals once for all panels."""
    for top, bottom in pairs[::COLUMNS]:
        top.set_ylabel(quantity)
        bottom.set_ylabel("signal, in units\nof its threshold")
    lines = next((b.get_legend_handles_labels() for _, b in pairs if b.lines), ([], []))
    fig.legend(*lines, loc="outside lower center", ncols=max(1, len(lines[0])))
