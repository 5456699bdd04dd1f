"""The look of the figures: 5.5 inch wide, 8 pt, colour-blind-safe, many runs as a band.

Figures are :class:`matplotlib.figure.Figure` objects; pyplot and its global state stay out.

Example:
    >>> import numpy as np
    >>> with style():
    ...     fig, axes = figure(1, 2, height=2.0)
    ...     _ = band(axes[0], np.arange(3), np.ones((5, 3)), label="loss")
    ...     _ = threshold(axes[0], 2.0, "2/η")
    >>> len(axes[0].lines)
    2
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Colours that are told apart with any colour vision (Okabe and Ito, 2008), darkest first."""

WIDTH = 5.5
"""Of a figure, in inches: the text width of a paper."""

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=OKABE_ITO),
    "image.cmap": "viridis",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The project's settings, for figures made, and saved, inside the block."""
    with matplotlib.rc_context(_STYLE):
        yield


def figure(
    nrows: int = 1, ncols: int = 1, *, height: float = 2.4, **subplots: Any
) -> tuple[Figure, Any]:
    """A figure of full width with its axes.

    Args:
        nrows: rows of axes.
        ncols: columns of axes.
        height: of the whole figure, in inches.
        **subplots: for :meth:`matplotlib.figure.Figure.subplots` (``sharex``, ``squeeze``, ...).

    Returns:
        The figure, and one axes or an array of axes.
    """
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    return fig, fig.subplots(nrows, ncols, **subplots)


def settle(fig: Figure) -> None:
    """Lays a figure out once and for all; saving it would do so again for every format.

    Example:
        >>> fig, axes = figure()
        >>> settle(fig)
        >>> type(fig.get_layout_engine()).__name__
        'PlaceHolderLayoutEngine'
    """
    engine = fig.get_layout_engine()
    if engine is not None:
        engine.execute(fig)
        fig.set_layout_engine("none")


def band(axes: Axes, x: ArrayLike, values: ArrayLike, **line: Any) -> Line2D:
    """The median over runs as a line, and the range between the quartiles as a band.

    Args:
        axes: to draw on.
        x: (n,).
        values: (runs, n); NaN where a run has no value.
        **line: for :meth:`matplotlib.axes.Axes.plot` (``label``, ``color``, ...).

    Returns:
        The line of the median.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, median, high = np.nanquantile(np.asarray(values, float), [0.25, 0.5, 0.75], axis=0)
    (drawn,) = axes.plot(x, median, **line)
    axes.fill_between(np.asarray(x), low, high, color=drawn.get_color(), alpha=0.25, linewidth=0)
    return drawn


def threshold(axes: Axes, value: float, label: str, **line: Any) -> Line2D:
    """A horizontal line at a threshold, with its name at the right end.

    Args:
        axes: to draw on.
        value: of the threshold.
        label: its name, written on the line.
        **line: for :meth:`matplotlib.axes.Axes.axhline`.
    """
    drawn = axes.axhline(value, **({"color": "0.35", "linestyle": "--", "linewidth": 0.8} | line))
    axes.annotate(
        label,
        (1, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7,
        color=drawn.get_color(),
    )
    return drawn
