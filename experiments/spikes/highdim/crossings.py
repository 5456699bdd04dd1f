"""The two crossings that precede a deep spike, and how the gradient turns between them."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from experiments.claims import Claim, Target, bootstrap_claim
from experiments.spikes import figures
from experiments.spikes.ledger import finite_median
from experiments.spikes.measurements import SPIKE
from experiments.spikes.scores import Foresight
from phenodl import plots
from phenodl.spikes.detect import Spikes


class Crossings(NamedTuple):
    """Of the highest spike of each run that both λ_max(Ĥ) and A announce; one entry per such run.

    Attributes:
        seed: of the run.
        height: of the spike, in decades.
        trigger: the loss begins to rise.
        lambda_max: λ_max(Ĥ) crosses 2/η.
        curvature_a: the curvature along the gradient crosses 2/η.
        before: |cos| of the gradient and the top eigenvector of Ĥ as λ_max(Ĥ) crosses.
        after: the same as the curvature along the gradient crosses.
    """

    seed: Int[np.ndarray, " run"]
    height: Float[np.ndarray, " run"]
    trigger: Int[np.ndarray, " run"]
    lambda_max: Int[np.ndarray, " run"]
    curvature_a: Int[np.ndarray, " run"]
    before: Float[np.ndarray, " run"]
    after: Float[np.ndarray, " run"]


def crossings(
    runs: xr.Dataset, spikes: Spikes, top: Foresight, along_gradient: Foresight
) -> Crossings:
    """Reads the crossings off the leads.

    Args:
        runs: with ``alignment`` along seed and step.
        spikes: of the runs.
        top: the scores of λ_max(Ĥ).
        along_gradient: those of A.
    """
    height = np.asarray(spikes.height)
    highest = np.argmax(np.where(np.isnan(height), -np.inf, height), axis=1)
    every = np.arange(len(highest))
    both = np.isfinite(top.leads + along_gradient.leads)[every, highest]
    run, spike = every[both], highest[both]
    trigger = np.asarray(spikes.trigger)[run, spike]
    first, second = (
        trigger - found.leads[run, spike].astype(int) for found in (top, along_gradient)
    )
    alignment = runs.alignment.transpose("seed", "step").values
    return Crossings(
        seed=runs.seed.values[run],
        height=height[run, spike],
        trigger=trigger,
        lambda_max=first,
        curvature_a=second,
        before=alignment[run, first],
        after=alignment[run, second],
    )


def claims(name: str, found: Crossings) -> list[Claim]:
    """The order of the crossings, and the turn of the gradient between them.

    Args:
        name: of the experiment's part that the claims are of.
        found: from :func:`crossings`.
    """
    return [
        bootstrap_claim(
            f"{name}/order",
            "λ_max(Ĥ) crosses 2/η 8 to 16 steps before A does: median over runs",
            f"{SPIKE}, λ_grad against λ_max",
            found.curvature_a - found.lambda_max,
            Target("in", (8.0, 16.0)),
            finite_median,
        ),
        bootstrap_claim(
            f"{name}/apart",
            "As λ_max(Ĥ) crosses, the gradient is far from its eigenvector: |cos|, median over "
            "runs",
            f"{SPIKE}, alignment of the gradient",
            found.before,
            Target("<=", 0.5),
            finite_median,
        ),
        bootstrap_claim(
            f"{name}/aligned",
            "As A crosses, the gradient has turned into the eigenvector: |cos|, median over runs",
            f"{SPIKE}, alignment of the gradient",
            found.after,
            Target(">=", 0.9),
            finite_median,
        ),
    ]


def rows(found: Crossings) -> list[dict[str, Any]]:
    """The crossings as a table, a row per run."""
    labels = (
        "seed",
        "decades",
        "trigger",
        "λ_max(Ĥ) crosses",
        "A crosses",
        "|cos| as λ_max(Ĥ) crosses",
        "|cos| as A crosses",
    )
    columns = (column.tolist() for column in found)
    return [dict(zip(labels, row, strict=True)) for row in zip(*columns, strict=True)]


def figure(runs: xr.Dataset, spikes: Spikes, found: Crossings) -> Figure:
    """The alignment around the triggers, with the median places of the crossings."""
    drawn = figures.alignment(runs, spikes, before=40, after=20)
    marks = (
        ("λ_max(Ĥ)", found.lambda_max, "lambda_max_adam"),
        ("A", found.curvature_a, "curvature_a"),
    )
    with plots.style():
        axes = drawn.axes[0]
        for label, crossing, signal in marks:
            if len(crossing):
                place = float(np.median(crossing - found.trigger))
                color = figures.COLORS[signal]
                axes.axvline(place, color=color, linestyle="--", label=f"{label} crosses 2/η")
        if len(found.trigger):
            axes.legend(loc="upper left")
    return drawn
