"""The figure: test error against inner width and against sample size."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.completion.generalization.config import Config
from experiments.completion.generalization.outcome import LARGE, SMALL, Outcome
from phenodl import plots

_STARTS = (("small", SMALL, plots.OKABE_ITO[0]), ("large", LARGE, plots.OKABE_ITO[1]))


def test_error(config: Config, outcome: Outcome) -> Figure:
    """Median and quartiles over instances; the well sampled ones on the left."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.6, sharey=True)
        _by_width(left, config, outcome)
        _by_sample_size(right, config, outcome)
        left.set_ylabel("relative error")
        left.set_yscale("log")
    return fig


def _by_width(axis: Axes, config: Config, outcome: Outcome) -> None:
    order = np.argsort(config.inner_widths)
    widths = np.array(config.inner_widths)[order]
    chosen = outcome.well_sampled
    for name, start, color in _STARTS:
        for errors, entries, line in (
            (outcome.test, "unobserved", {"marker": "o", "markersize": 3}),
            (outcome.training, "observed", {"linestyle": ":"}),
        ):
            values = errors[chosen][..., order, start].reshape(-1, len(widths))
            label = f"{name} start, {entries} entries"
            plots.band(axis, widths, values, color=color, label=label, **line)
    sizes = np.array(config.sample_sizes)[chosen]
    axis.set(
        xscale="log",
        xlabel="inner width",
        title=f"{' and '.join(map(str, sizes))} of {config.side**2} entries observed",
    )
    axis.minorticks_off()
    axis.set_xticks(widths, [str(width) for width in widths])
    _mark(axis, config.rank, f"rank {config.rank}", height=0.5)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25))


def _by_sample_size(axis: Axes, config: Config, outcome: Outcome) -> None:
    order = np.argsort(config.sample_sizes)
    sizes = np.array(config.sample_sizes)[order]
    widest = max(config.inner_widths)
    for width, name, start, line in (
        (min(config.inner_widths), "small", SMALL, {"color": "0.45", "marker": "s"}),
        (config.rank, "small", SMALL, {"color": plots.OKABE_ITO[2], "marker": "^"}),
        (widest, "small", SMALL, {"color": plots.OKABE_ITO[0], "marker": "o"}),
        (widest, "large", LARGE, {"color": plots.OKABE_ITO[1], "marker": "o"}),
    ):
        values = outcome.test[order, :, config.inner_widths.index(width), start].T
        label = f"width {width}, {name} start"
        plots.band(axis, sizes, values, markersize=3, label=label, **line)
    axis.set(xlabel="observed entries", title="unobserved entries")
    _mark(axis, config.degrees_of_freedom, "degrees of freedom", height=0.02)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25))


def _mark(axis: Axes, place: float, label: str, height: float) -> None:
    """A vertical line, named on its right from a height, as a share of the axes."""
    axis.axvline(place, color="0.35", linestyle="--", linewidth=0.8)
    axis.annotate(
        label,
        (place, height),
        xycoords=axis.get_xaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        rotation=90,
        va="bottom",
        fontsize=7,
        color="0.35",
    )
