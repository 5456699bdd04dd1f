"""The figures: singular values of W_aug in time, manifolds lost in a rotated basis, the balance."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.completion.invariants.flow import ENTRY_LOSSES, LOOK_EVERY
from experiments.completion.invariants.outcome import FACTORS, LOST, Departure, singular_values
from experiments.completion.invariants.starts import BASES, NEAR, Starts
from phenodl import plots


def spectrum(starts: Starts, trained: xr.Dataset) -> Figure:
    """The singular values of W_aug from starts near Ω₂, under each loss."""
    values = singular_values(trained)
    steps = np.arange(values.shape[1]) * LOOK_EVERY
    with plots.style():
        fig, axes = plots.figure(1, len(ENTRY_LOSSES), height=2.2, sharey=True)
        for place, (axis, loss) in enumerate(zip(axes, ENTRY_LOSSES, strict=True)):
            chosen = (starts.kind == NEAR) & (starts.loss == place)
            for number in range(values.shape[-1]):
                label = f"$\\sigma_{number + 1}$"
                plots.band(axis, steps, values[chosen, :, number], label=label)
            axis.set(yscale="log", title=f"{loss} loss", xlabel="step")
        axes[0].set_ylabel("singular values of W_aug")
        axes[0].legend(loc="center right", ncols=2)
        fig.suptitle("starts near Ω₂, random masks: median and quartiles", fontsize=7)
    return fig


def bases(departures: Mapping[int, Departure]) -> Figure:
    """How Ω₁ and Ω₂ are lost where their latent directions are rotated."""
    with plots.style():
        fig, axes = plots.figure(1, len(departures), height=2.4, sharey=True)
        for axis, (rank, found) in zip(axes, departures.items(), strict=True):
            for basis in BASES[1:]:
                plots.band(axis, found.steps, found.ratio[basis], label=basis)
            axis.axhline(LOST, color="0.35", linestyle="--", linewidth=0.8)
            axis.annotate(
                "lost",
                (0, LOST),
                xytext=(2, 2),
                textcoords="offset points",
                fontsize=7,
                color="0.35",
            )
            axis.set(
                yscale="log",
                xlabel="step",
                ylabel=f"$\\sigma_{rank + 1} / \\sigma_1$ of W_aug",
                title=f"start on $\\Omega_{rank}$ (n = {len(found.lost)}; aligned: exactly 0)",
            )
        axes[-1].legend(loc="center right", bbox_to_anchor=(1, 0.45))
    return fig


def balance(starts: Starts, drift: Float[np.ndarray, "runs factors"]) -> Figure:
    """The drift of AᵀA - BBᵀ against the step, under each loss."""
    with plots.style():
        fig, axis = plots.figure(height=2.4)
        for place, loss in enumerate(ENTRY_LOSSES):
            shown = drift[starts.loss == place]
            plots.band(axis, FACTORS, shown, marker="o", markersize=3, label=f"{loss} loss")
        top = np.median(drift[starts.loss == 0], axis=0)[0]
        axis.plot(FACTORS, 2 * top * np.array(FACTORS) ** 4, "k:", label="slope 4")
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="step of RK4, relative to the safe step",
            ylabel="largest relative drift of AᵀA - BBᵀ",
            xticks=FACTORS,
            xticklabels=[f"{factor:g}" for factor in FACTORS],
        )
        axis.minorticks_off()
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig
