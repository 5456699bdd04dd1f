"""The figures: approximate lifts, eigenvalues before and after, the set of lifts, pruning."""

import numpy as np
from matplotlib.figure import Figure

from experiments.embedding.depth.bases import ACTIVATIONS
from experiments.embedding.depth.deep import HIDDEN, Deep
from experiments.embedding.depth.lifts import Approximate, Lifted, Points
from experiments.embedding.depth.units import BIAS, COUNTS, INTERVALS, SIZES, Admissible
from phenodl import plots

_LEAST = 1e-18  # eigenvalues that are smaller still, relative to the largest, are drawn there
_NAMES = {"none": "no normalisation", "batch": "over the data", "layer": "over the units"}


def errors(eps: np.ndarray, found: Approximate) -> Figure:
    """Errors of the approximate lifts over ε, each with the line of its order."""
    with plots.style():
        fig, axes = plots.figure(1, 2, height=2.3)
        rows = (
            (axes[0], found.output_error, 2, "largest change of an output"),
            (axes[1], found.grad_norm, 1, "gradient norm after the lift"),
        )
        order = np.argsort(eps)
        for axis, values, power, label in rows:
            plots.band(axis, eps[order], values[:, order], marker=".", label="tanh networks")
            guide = np.median(values[:, order[-1]]) * (eps / eps.max()) ** power * 3
            name = rf"$\propto \varepsilon^{power}$" if power > 1 else r"$\propto \varepsilon$"
            axis.plot(eps[order], guide[order], "--", color="0.35", linewidth=0.8, label=name)
            axis.set(xscale="log", yscale="log", xlabel="ε", ylabel=label)
            axis.legend(loc="upper left")
    return fig


def spectra(points: Points, lifted: Lifted) -> Figure:
    """Eigenvalues of one point with a negative one, and how the counts of all points change."""
    saddles = np.flatnonzero(lifted.inertia[0].negative > 0)
    example = int(saddles[0]) if saddles.size else 0
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.8, width_ratios=(3, 2))
        for layers, values in enumerate(lifted.eigenvalues):
            ratio = values[example] / np.abs(values[example]).max()
            size = np.maximum(np.abs(ratio), _LEAST)
            signs = (
                (ratio > 1e-12, plots.OKABE_ITO[0], "^", "positive"),
                (np.abs(ratio) <= 1e-12, "0.6", "o", "zero"),
                (ratio < -1e-12, plots.OKABE_ITO[1], "v", "negative"),
            )
            for chosen, color, marker, name in signs:
                spread = np.linspace(-0.3, 0.3, chosen.sum()) if chosen.sum() > 1 else 0.0
                label = name if layers == 0 else None
                left.plot(
                    layers + np.zeros(chosen.sum()) + spread,
                    size[chosen],
                    marker,
                    color=color,
                    markersize=3,
                    linestyle="none",
                    label=label,
                )
        plots.threshold(left, 1e-12, "counted as zero below")
        kind = list(ACTIVATIONS)[int(points.data["kind"][example])]
        left.set(
            yscale="log",
            xlabel="layers lifted",
            ylabel="|eigenvalue| / largest",
            title=f"one critical point, {kind}",
            xticks=range(len(lifted.eigenvalues)),
            ylim=(_LEAST / 3, 1e3),
        )
        left.legend(loc="upper right", ncols=3, columnspacing=0.8, handletextpad=0.1)

        added = [values.shape[1] - lifted.eigenvalues[0].shape[1] for values in lifted.eigenvalues]
        names = {"negative": plots.OKABE_ITO[1], "zero": "0.6", "positive": plots.OKABE_ITO[0]}
        for shift, (name, color) in zip((-0.25, 0.0, 0.25), names.items(), strict=True):
            before = getattr(lifted.inertia[0], name)
            change = [(getattr(each, name) - before) for each in lifted.inertia]
            middle = np.array([np.median(each) for each in change])
            spread = np.array(
                [[m - c.min(), c.max() - m] for m, c in zip(middle, change, strict=True)]
            ).T
            place = np.arange(len(change)) + shift
            right.bar(place[1:], middle[1:], 0.25, color=color, label=name, yerr=spread[:, 1:])
        for layers, count in enumerate(added[1:], start=1):
            right.plot([layers - 0.45, layers + 0.45], [count, count], "--", color="black")
            right.annotate(f"P' - P = {count}", (layers, count), ha="center", va="bottom", size=6)
        right.set(
            xlabel="layers lifted",
            ylabel="change in number",
            title=f"all {len(points.subset)} points (bars: range)",
            xticks=range(1, len(added)),
            ylim=(-1, 1.15 * added[-1]),
        )
        right.legend(loc="upper left")
    return fig


def admissible(found: Admissible) -> Figure:
    """The share of units that could be a lifted layer's, by number of data and size of weights."""
    with plots.style():
        fig, axes = plots.figure(2, 2, height=3.9, sharey="row")
        for row, interval in zip(axes, INTERVALS, strict=True):
            for color, (norm, name) in zip(plots.OKABE_ITO, _NAMES.items(), strict=False):
                by_count, by_size = found.by_count[norm, interval], found.by_size[norm, interval]
                if by_count.any():
                    plots.band(row[0], COUNTS, by_count, marker=".", label=name, color=color)
                    plots.band(row[1], SIZES, by_size, marker=".", label=name, color=color)
                else:
                    row[0].plot([], [], label=f"{name}: none found", color=color)
            row[0].set(ylabel=f"share of units within {interval}", yscale="log", ylim=(1e-3, 0.7))
            row[0].legend(loc="lower left")
            for axis in row:
                axis.set_xscale("log")
        axes[0, 0].set_title(f"weights in [-1, 1], bias in [-{BIAS:g}, {BIAS:g}]")
        axes[0, 1].set_title(f"all {COUNTS[-1]} flowers")
        axes[1, 0].set_xlabel("number of data")
        axes[1, 1].set_xlabel("largest weight before normalisation")
    return fig


def pruning(found: Deep, tolerance: float) -> Figure:
    """How affine each layer of the trained networks is, and what it costs to merge it."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.5)
        for kind, (name, color) in enumerate(
            zip(("plain", "batch normalised"), plots.OKABE_ITO, strict=False)
        ):
            layers = np.arange(1, HIDDEN + 1)
            plots.band(left, layers, found.departure[kind], marker=".", label=name, color=color)
            ratio = found.merged_loss[kind] / found.loss[kind][:, None]
            right.plot(found.departure[kind], ratio, ".", color=color, markersize=4)
        plots.threshold(left, tolerance, "pruned below")
        left.set(xlabel="hidden layer", ylabel="departure from affine", ylim=(0, None))
        left.set_xticks(range(1, HIDDEN + 1))
        left.legend(loc="upper right")
        right.axvline(tolerance, color="0.35", linestyle="--", linewidth=0.8)
        right.set(
            xlabel="departure of a layer from affine",
            ylabel="loss with it merged / before",
        )
    return fig
