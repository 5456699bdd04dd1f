"""The figures: one run through time, distance to best fits, escapes, rank against the start."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.completion.hierarchy.instances import RANK
from experiments.completion.hierarchy.outcome import Escapes, History, Saddles, column_norms
from phenodl import plots
from phenodl.completion.low_rank_fit import best_fit
from phenodl.completion.plateaus import spectra
from phenodl.data.matrices import Instances

_LEAST = 1e-17  # smaller distances and angles are rounding, and are drawn there


def hierarchy(history: History, passed: Saddles, run: int, family: Instances) -> Figure:
    """One run: loss and gradient, singular values of W_aug at all scales, those of A, B, W."""
    plateaus = passed.record[passed.run == run]
    values = spectra(history.left[run], history.right[run])
    step = history.step
    with plots.style():
        fig, axes = plots.figure(2, 2, height=4.3, sharex=True)
        fig.suptitle("one run; grey: its plateaus", fontsize=7)
        (descent, graded), (factors, product) = axes
        descent.plot(step, history.loss[run], label="loss per entry")
        descent.plot(step, history.grad_norm[run], label="gradient norm")
        _draw_best_losses(descent, passed, run, family)
        descent.set(title="loss and gradient", yscale="log", ylim=(1e-18, 1e6))
        descent.legend(loc="upper right", ncols=2)

        _draw_values(graded, step, column_norms(history)[run])
        graded.set(title="singular values of W_aug", yscale="log")
        graded.legend([f"σ{number + 1}" for number in range(len(graded.lines))], loc="center right")
        _draw_values(factors, step, values["A"])
        _draw_values(factors, step, values["B"], linestyle="--")
        factors.set(title="of A (solid) and B (dashed)", xlabel="step")
        _draw_values(product, step, values["W"])
        product.set(title="of W", xlabel="step")
        for axis in axes.flat:
            for record in plateaus:
                axis.axvline(step[record], color="0.7", linewidth=0.6, zorder=0)
    return fig


def best_fits(distance: Mapping[int, np.ndarray], passed: Mapping[int, Saddles]) -> Figure:
    """How far the plateaus of each rank are from the best fit of that rank."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.4)
        for color, (k, values) in zip(plots.OKABE_ITO, distance.items(), strict=False):
            _draw_shares(left, values, f"rank {k}", color=color)
            right.loglog(passed[k].loss, values, ".", markersize=2, color=color)
        left.set(xlabel="distance from the best fit, $|W - W_k|_F$", ylabel="share of plateaus")
        left.legend(loc="lower right")
        right.set(xlabel="loss per entry at the plateau", ylabel="distance from the best fit")
    return fig


def escapes(leaving: Mapping[int, Escapes]) -> Figure:
    """How nearly rank one the growing part of W_aug is, and how well it follows the residual."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.4, sharey=True)
        for color, (k, each) in zip(plots.OKABE_ITO, leaving.items(), strict=False):
            name = f"from rank {k}" if k else "from the origin"
            _draw_shares(left, each.second, name, color=color)
            for cosine, line in ((each.left, "-"), (each.right, "--")):
                label = f"{name}, {'A' if line == '-' else 'B'}"
                _draw_shares(right, 1 - cosine, label, color=color, linestyle=line)
        left.set(xlabel="second over first growing singular value", ylabel="share of escapes")
        right.set(xlabel="1 - |cos| to the residual's singular vector")
        left.legend(loc="lower right", fontsize=6)
        right.legend(loc="lower right", fontsize=6)
    return fig


def rank(
    stds: Float[np.ndarray, " stds"],
    learned: Int[np.ndarray, "instances stds"],
    converged: Bool[np.ndarray, "instances stds"],
) -> Figure:
    """The shares of solutions of each rank, by the standard deviation of the start."""
    with plots.style():
        fig, axis = plots.figure(height=2.2)
        place, base = np.arange(len(stds)), np.zeros(len(stds))
        order = np.argsort(-stds)
        total = converged.sum(0)
        for color, value in zip(plots.OKABE_ITO, np.unique(learned[converged]), strict=False):
            share = ((learned == value) & converged).sum(0) / np.maximum(total, 1)
            name = f"rank {value}" + (", the minimum" if value == RANK else "")
            axis.bar(place, share[order], 0.7, base, label=name, color=color)
            base += share[order]
        labels = [f"{_power(float(stds[at]))}\n(n = {total[at]})" for at in order]
        axis.set_xticks(place, labels)
        axis.set(xlabel="std of the initial factors", ylabel="share of solutions")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _draw_best_losses(axis: Axes, passed: Saddles, run: int, family: Instances) -> None:
    """Lines at the losses of the best fits of the ranks at which a run has rested."""
    ranks = passed.rank[passed.run == run]
    losses = [
        best_fit(family.target[run][None], family.mask[run][None], int(rank)).loss[0]
        for rank in ranks
    ]
    for loss in losses:
        level = loss / family.mask[run].sum()
        axis.axhline(level, color="0.35", linestyle="--", linewidth=0.6)
    if losses:
        axis.annotate(
            "best fits of rank " + ", ".join(map(str, ranks)),
            (1, max(losses) / family.mask[run].sum()),
            xycoords=axis.get_yaxis_transform(),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=6,
            color="0.35",
        )


def _draw_values(axis: Axes, step: np.ndarray, values: np.ndarray, **line: Any) -> None:
    for number, color in zip(range(values.shape[1]), plots.OKABE_ITO, strict=False):
        axis.plot(step, values[:, number], color=color, **line)


def _power(value: float) -> str:
    """A label: plain down to 0.01, as a power of ten below."""
    if value >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    factor = "" if float(mantissa) == 1 else rf"{float(mantissa):g} \times "
    return f"${factor}10^{{{int(exponent)}}}$"


def _draw_shares(axis: Axes, values: np.ndarray, label: str, **line: Any) -> None:
    ordered = np.sort(np.maximum(values, _LEAST))
    axis.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), label=label, **line)
    axis.set(xscale="log")
