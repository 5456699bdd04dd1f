"""The figures: deviations, inertia before and after, the least eigenvalue along alpha."""

import numpy as np
from matplotlib.figure import Figure

from experiments.embedding.width.embeddings import CONTROL, KINDS
from experiments.embedding.width.outcome import Curves, Survey
from phenodl import plots

_LEAST = 1e-17  # smaller deviations are rounding to zero, and are drawn there
_SIGNS = ("negative", "zero", "positive")


def deviations(rows: Survey) -> Figure:
    """Every embedding: the largest change of the output, and the gradient, by kind and depth."""
    names = (*KINDS, CONTROL)
    random = np.random.default_rng(0)
    with plots.style():
        fig, axes = plots.figure(1, 2, height=2.5, sharey=True)
        for axis, values in zip(axes, (rows.output, rows.grad_norm), strict=True):
            for color, depth in zip(plots.OKABE_ITO, np.unique(rows.depth), strict=False):
                for place, kind in enumerate(names):
                    of = (rows.kind == kind) & (rows.depth == depth)
                    x = place + 0.25 * (depth - 2) + random.uniform(-0.09, 0.09, of.sum())
                    label = f"{depth} hidden layer{'s' if depth > 1 else ''}" if not place else None
                    drawn = np.maximum(values[of], _LEAST)
                    axis.plot(x, drawn, ".", color=color, markersize=2.5, label=label)
            axis.set(yscale="log", ylim=(_LEAST / 3, 30))
            axis.set_xticks(range(len(names)), names, rotation=20)
        axes[0].set(title="largest change of the output")
        axes[1].set(title="norm of the gradient")
        plots.threshold(axes[0], 1e-13, "bound, 1e-13")
        plots.threshold(axes[1], 1e-12, "bound, 1e-12")
        axes[0].legend(loc="upper left", markerscale=3)
    return fig


def inertia(embedded: Survey) -> Figure:
    """Numbers of eigenvalues of each sign, before and after."""
    random = np.random.default_rng(0)
    with plots.style():
        fig, axes = plots.figure(1, 3, height=2.2)
        for column, (axis, sign) in enumerate(zip(axes, _SIGNS, strict=True)):
            before, after = embedded.narrow[:, column], embedded.wide[:, column]
            for color, kind in zip(plots.OKABE_ITO, KINDS, strict=False):
                of = embedded.kind == kind
                blur = random.uniform(-0.25, 0.25, (2, of.sum()))
                axis.plot(
                    before[of] + blur[0],
                    after[of] + blur[1],
                    ".",
                    color=color,
                    markersize=2,
                    label=kind,
                )
            ends = np.array([-0.5, max(before.max(), 1) + 0.5])
            axis.plot(ends, ends, color="0.35", linestyle="--", linewidth=0.8)
            axis.set(xlabel=f"{sign}, narrow", ylabel=f"{sign}, wide")
            for each in (axis.xaxis, axis.yaxis):
                each.get_major_locator().set_params(integer=True)
        axes[0].annotate(
            "no change",
            (axes[0].get_xlim()[1] * 0.6, axes[0].get_xlim()[1] * 0.45),
            fontsize=6,
            color="0.35",
        )
        axes[1].legend(loc="upper right", markerscale=3, fontsize=6)
    return fig


def alpha(along: Curves) -> Figure:
    """The least eigenvalue of splits of minima, but for the flat direction, along alpha."""
    names = list(dict.fromkeys(along.family))
    with plots.style():
        fig, axes = plots.figure(1, len(names), height=2.5, sharey=True, squeeze=False)
        for axis, name in zip(axes[0], names, strict=True):
            of = along.family == name
            scale = np.abs(along.lowest[of]).max(axis=1, keepdims=True)
            for unit in np.unique(along.unit[of]):
                curves = (along.lowest[of] / scale)[along.unit[of] == unit]
                color = plots.OKABE_ITO[unit]
                lines = axis.plot(along.alpha, curves.T, color=color, linewidth=0.8)
                lines[0].set_label(f"of unit {unit + 1}")
            axis.axhline(0, color="0.35", linewidth=0.6)
            for border in (0, 1):
                axis.axvline(border, color="0.35", linestyle="--", linewidth=0.8)
            minima = len(np.unique(along.point[of]))
            axis.set_title(f"{name}:\n{minima} minima", fontsize=7)
            axis.set(xlabel="α of the split")
            axis.text(0.5, -1.06, "below 0: strict saddle", ha="center", va="top", fontsize=6)
        axes[0, 0].set(ylabel="least eigenvalue but the flat one,\nover its largest magnitude")
        axes[0, 0].set_ylim(-1.2, max(0.4, axes[0, 0].get_ylim()[1]))  # room for text and legend
        axes[0, min(1, len(names) - 1)].legend(loc="upper center", fontsize=6)
    return fig
