"""What a split changes, and what not, by kind of unit."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.embedding.modules.measure import Embeddings
from phenodl import plots

_TINY = 1e-17  # where exact zeros are drawn


def figure(found: Mapping[str, Embeddings]) -> Figure:
    """Output, gradient and control on one axis; the inertia measured against that predicted."""
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.6, width_ratios=(3, 2))
        places = np.arange(len(found))
        for offset, (field, label) in enumerate(
            (
                ("output", "change of output"),
                ("gradient", "gradient"),
                ("control", "gradient, control"),
            )
        ):
            for place, embedded in zip(places, found.values(), strict=True):
                values = np.maximum(getattr(embedded, field).ravel(), _TINY)
                spread = np.linspace(-0.08, 0.08, values.size)
                left.plot(
                    values,
                    place + 0.24 * (offset - 1) + spread,
                    ".",
                    markersize=3,
                    color=plots.OKABE_ITO[offset],
                    label=label if place == 0 else None,
                )
        left.axvline(1e-11, color="0.35", linestyle="--", linewidth=0.8)
        left.text(1e-11, -0.45, " allowed", fontsize=7, color="0.35")
        left.set(xscale="log", xlabel="largest change of an output, gradient norm")
        left.set_yticks(places, [name.replace(", ", "\n") for name in found])
        left.invert_yaxis()
        fig.legend(loc="outside upper center", ncols=3)
        for color, name in zip(plots.OKABE_ITO, ("negative", "zero", "positive"), strict=False):
            measured, predicted = (
                np.concatenate(
                    [
                        (getattr(getattr(each, which), name) - getattr(each.before, name)).ravel()
                        for each in found.values()
                    ]
                )
                for which in ("after", "predicted")
            )
            right.plot(predicted, measured, "o", markersize=3, alpha=0.4, color=color, label=name)
        top = max(right.get_xlim()[1], right.get_ylim()[1])
        right.plot([0, top], [0, top], color="0.35", linestyle="--", linewidth=0.8, zorder=0)
        right.set(xlabel="predicted new eigenvalues", ylabel="measured")
        right.legend()
    return fig
