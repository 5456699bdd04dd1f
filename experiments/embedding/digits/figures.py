"""Input weights as images, similarities of units, and what merging them keeps."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from experiments.embedding.digits.measure import ANGLES, Reduced, cosines, run_params
from phenodl import plots
from phenodl.embedding.networks import unit_sizes
from phenodl.embedding.reduction import reduce
from phenodl.models import mlp

_SIDE = 8  # of an image, in pixels
_COLUMNS = 16


def weights(params: mlp.Params, angle: float) -> Figure:
    """Input weights of the first run's units, the largest first, and of the merged ones.

    Args:
        params: of the wide networks, along a leading axis.
        angle: of the clusters, in radians.
    """
    wide = run_params(params, 0)
    narrow = jax.tree.map(np.asarray, reduce(wide, jax.nn.relu, angle=angle).params)
    tiled = {}
    for name, part in {"wide": wide, "narrow": narrow}.items():
        rows = part["layer_0"]["weight"][np.argsort(-np.asarray(unit_sizes(part, 0)))]
        tiled[f"{name}: {len(rows)} units"] = _tiled(rows[: 4 * _COLUMNS])
    heights = [len(image) for image in tiled.values()]
    with plots.style():
        fig, axes = plots.figure(2, 1, height=0.04 * sum(heights) + 0.6, height_ratios=heights)
        for ax, (title, image) in zip(axes, tiled.items(), strict=True):
            ax.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1)
            ax.set_title(title, loc="left")
            ax.set_axis_off()
    return fig


def _tiled(rows: Float[np.ndarray, "units pixels"]) -> Float[np.ndarray, "height width"]:
    """Images side by side, each relative to its largest weight, with gaps of one pixel."""
    lines = -(-len(rows) // _COLUMNS)
    tiles = np.full((lines * _COLUMNS, _SIDE + 1, _SIDE + 1), np.nan)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    images = rows / np.where(largest > 0, largest, 1.0)
    tiles[: len(rows), :_SIDE, :_SIDE] = images.reshape(-1, _SIDE, _SIDE)
    grid = tiles.reshape(lines, _COLUMNS, _SIDE + 1, _SIDE + 1).transpose(0, 2, 1, 3)
    return grid.reshape(lines * (_SIDE + 1), -1)


def similarity(before: mlp.Params, after: mlp.Params, usual: mlp.Params) -> Figure:
    """Cosine similarity of the first run's units, in the order of their first singular vector.

    Args:
        before: at the condensing start.
        after: at the end from there.
        usual: at the end from the usual start.
    """
    panels = {"condensing start": before, "after training": after, "usual start, after": usual}
    with plots.style():
        fig, axes = plots.figure(1, 3, height=2.2)
        for ax, (title, params) in zip(axes, panels.items(), strict=True):
            network = run_params(params, 0)
            labels = reduce(network, jax.nn.relu, angle=0.5, atol=0, rtol=0).labels[0]
            order = np.argsort(labels, kind="stable")
            matrix = cosines(network)[np.ix_(order, order)]
            image = ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
            ax.set(title=title, xlabel="unit")
        axes[0].set_ylabel("unit, by cluster")
        fig.colorbar(image, ax=axes, label="cosine similarity", shrink=0.8)
    return fig


def agreement(reductions: Mapping[str, Sequence[Reduced]], width: int) -> Figure:
    """Equal predictions on digits held out against the units left, over angles."""
    with plots.style():
        fig, axes = plots.figure(1, 2, height=2.3)
        for name, reduced in reductions.items():
            units = np.array([each.units for each in reduced])
            (line,) = axes[0].plot(ANGLES, np.median(units, 1), "o-", markersize=3, label=name)
            axes[0].fill_between(
                ANGLES, *np.quantile(units, [0.25, 0.75], axis=1), alpha=0.25, linewidth=0
            )
            for run in range(units.shape[1]):
                axes[1].plot(
                    units[:, run],
                    [each.held_out[run] for each in reduced],
                    "o-",
                    color=line.get_color(),
                    markersize=2,
                    linewidth=0.6,
                    alpha=0.5,
                )
        plots.threshold(axes[0], width, "wide")
        axes[0].set(xlabel="largest angle in a cluster (rad)", ylabel="units left")
        axes[0].legend(title="start")
        axes[1].set(xlabel="units left", ylabel="equal predictions, held out")
    return fig


def training(
    steps: Int[np.ndarray, " looks"],
    loss: Float[np.ndarray, "runs looks"],
    ways: Sequence[Reduced],
) -> Figure:
    """Loss, units left and agreement in the course of training."""
    with plots.style():
        fig, axes = plots.figure(1, 3, height=2.0)
        plots.band(axes[0], steps, loss)
        plots.band(axes[1], steps, np.array([each.units for each in ways]).T)
        plots.band(axes[2], steps, np.array([each.held_out for each in ways]).T)
        axes[0].set(ylabel="loss", yscale="log")
        axes[1].set(ylabel="units left")
        axes[2].set(ylabel="equal predictions, held out")
        for ax in axes:
            ax.set_xlabel("step")
    return fig
