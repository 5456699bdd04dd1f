"""The figures: learned pairs on their lines, positions, ways through the manifolds, and GLRL."""

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.completion.disconnected.instances import Disconnected
from experiments.completion.disconnected.outcome import Solutions, Traversal
from phenodl import plots
from phenodl.completion.greedy import GreedyPath

_FLOOR = 1e-17  # distances below rounding are drawn there


def pairs(data: Disconnected, learned: Float[np.ndarray, "starts 9 3 3"]) -> Figure:
    """Two hidden entries, one on each side of the single one, for one ground truth per mask."""
    with plots.style():
        fig, axes = plots.figure(3, 3, height=5.4)
        for place, axis in enumerate(axes.flat):
            first, second = (tuple(entry) for entry in data.pair[place])
            end = np.array([data.line[place][first], data.line[place][second]])
            truth = np.array([data.target[place][first], data.target[place][second]])
            _draw_fits(axis, end, truth)
            found = learned[:, place]
            axis.plot(found[:, *first], found[:, *second], ".", color=plots.OKABE_ITO[0])
            axis.plot(*truth, "*", color=plots.OKABE_ITO[1], ms=8)
            axis.plot(0, 0, "x", color="k", ms=5)
            axis.set(
                xlabel=f"$W_{{{first[0] + 1}{first[1] + 1}}}$",
                ylabel=f"$W_{{{second[0] + 1}{second[1] + 1}}}$",
            )
            empty = 0.02 if end.prod() > 0 else 0.74  # the corner that the fits stay away from
            _draw_mask(axis.inset_axes((empty, 0.74, 0.24, 0.24)), data.mask[place])
        fig.suptitle(
            "dots: gradient flow; line: balanced fits; dotted: fits of rank 1, with the ground"
            " truth (star);\ncross: greedy low-rank learning; inset: observed entries",
            fontsize=7,
        )
    return fig


def position(three: Solutions, two: Solutions) -> Figure:
    """The law of the position on the line, and its prediction from the start."""
    grid = np.linspace(-0.999, 0.999, 400)
    laws = (
        (three, 3, np.full_like(grid, 0.5), "uniform"),
        (two, 2, 1 / (np.pi * np.sqrt(1 - grid**2)), "arcsine law"),
    )
    with plots.style():
        fig, axes = plots.figure(1, 3, height=2.2)
        for axis, (found, width, law, name) in zip(axes, laws, strict=False):
            bins = np.linspace(-1, 1, 21)
            axis.hist(found.position.ravel(), bins, density=True, color=plots.OKABE_ITO[5])
            axis.plot(grid, law, "k--", label=name)
            axis.set(
                ylim=(0, 2.4),
                title=f"{width} latent directions",
                xlabel="position c on the line",
            )
            axis.legend(loc="upper center")
        axes[0].set_ylabel("density")
        fig.suptitle(f"{three.position.size} runs each", fontsize=7)
        axes[2].plot(three.predicted.ravel(), three.position.ravel(), ".", ms=1.5)
        axes[2].set(
            xlabel="cosine from the start",
            ylabel="position c",
            title="decided by the start",
            aspect="equal",
        )
    return fig


def traversal(ways: Traversal) -> Figure:
    """Distances of one run, and how they grow in all of them."""
    lengths = np.isfinite(ways.loss).sum(1)
    shown = int(np.argsort(lengths)[len(lengths) // 2])
    names = ("stronger component", "weaker component")
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.5)
        for place, name in enumerate(names):
            for rank, line in enumerate(("-", ":")):
                values = np.maximum(ways.component[shown, :, place, rank], _FLOOR)
                color = plots.OKABE_ITO[place]
                left.plot(ways.step, values, line, color=color, label=f"{name}, $\\Omega_{rank}$")
        left.plot(ways.step, ways.whole[shown, :, 1], "k--", label="all of W_aug, $\\Omega_1$")
        last = ways.step[np.isfinite(ways.loss[shown])][-1]
        left.set(yscale="log", xlim=(0, last), xlabel="step", ylabel="distance", title="one run")
        fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        away = ways.component[..., 0] / np.nanmax(ways.component[..., 0], axis=1)[:, None]
        for way in away:
            right.plot(*way.T, color=plots.OKABE_ITO[2], alpha=0.4, linewidth=0.7)
        for x, y, name in ((0, 0, "start"), (1, 0, "saddle"), (1, 1, "fit")):
            right.plot(x, y, "ko", ms=4)
            above = 5 if name != "saddle" else -11
            right.annotate(name, (x, y), xytext=(0, above), textcoords="offset points", ha="center")
        right.set(
            xlabel="stronger component: distance to $\\Omega_0$",
            ylabel="weaker component",
            title=f"{len(away)} runs, relative to the end",
            xlim=(-0.12, 1.12),
            ylim=(-0.16, 1.18),
        )
    return fig


def greedy(
    changes: Float[np.ndarray, "starts instances"],
    path: GreedyPath,
    mask: Bool[np.ndarray, "instances 3 3"],
) -> Figure:
    """How far from greedy low-rank learning the flow ends."""
    hidden = np.abs(path.W[:, -1])[~mask].max()
    with plots.style():
        fig, axis = plots.figure(height=2.2)
        axis.hist(changes.ravel(), 40, density=True, color=plots.OKABE_ITO[5])
        axis.axvline(np.median(changes), color=plots.OKABE_ITO[1], label="median")
        axis.set(
            xlabel="|W - W_GLRL| / |W_GLRL|",
            ylabel="density",
            title=f"gradient flow against greedy learning, whose hidden entries are {hidden:g}",
        )
        axis.legend()
    return fig


def _draw_fits(axis: Axes, end: Float[np.ndarray, "2"], truth: Float[np.ndarray, "2"]) -> None:
    """The line of balanced fits between its ends, and the hyperbola of those of rank 1."""
    axis.plot([-end[0], end[0]], [-end[1], end[1]], color="0.7", linewidth=2.5, zorder=0)
    limit = 1.25 * np.maximum(np.abs(end), np.abs(truth))
    for side in (-1, 1):
        x = side * np.geomspace(np.abs(end.prod()) / limit[1], limit[0], 100)
        axis.plot(x, end.prod() / x, ":", color="0.35", linewidth=0.8, zorder=0)
    axis.set(xlim=(-limit[0], limit[0]), ylim=(-limit[1], limit[1]))


def _draw_mask(axis: Axes, mask: Bool[np.ndarray, "3 3"]) -> None:
    axis.imshow(mask, cmap="Greys", vmin=0, vmax=1.6)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(True)
