"""The figures: the way to the held-out minimum, the singular values, the photograph."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.completion.data.outcome import Outcome
from experiments.completion.data.task import Task
from phenodl import plots

_DIRECTIONS = 12
"""Singular values whose growth is drawn."""


def history(task: Task, outcome: Outcome) -> Figure:
    """Errors and effective rank of the small start against the time of gradient flow."""
    path = outcome.path
    begin = _begin(outcome)
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.4)
        left.plot(path.time, path.test, label="held-out entries", color=plots.OKABE_ITO[1])
        left.plot(path.time, path.train, label="training entries", color=plots.OKABE_ITO[0])
        right.plot(path.time[path.spectrum_steps], path.effective_rank, label="small start")
        for axis in (left, right):
            _against_time(axis, outcome)
        if outcome.convex is not None:
            plots.threshold(left, outcome.convex.errors[2], "held-out, least nuclear norm")
            plots.threshold(right, outcome.convex.effective_rank, "least nuclear norm")
        left.set(ylabel="root mean square error", ylim=(0, 1.15 * path.test[0]))
        drawn = path.effective_rank[path.time[path.spectrum_steps] >= begin]
        highest = max(drawn.max(initial=1), outcome.convex.effective_rank if outcome.convex else 0)
        right.set(ylabel="effective rank", ylim=(0, 1.15 * highest))
        left.legend(loc="lower left")
        fig.suptitle(f"{task.name}; dotted: where training stops", fontsize=7)
    return fig


def singular_values(outcome: Outcome) -> Figure:
    """The largest singular values against time, and all of them where training stops."""
    path = outcome.path
    with plots.style():
        fig, (left, right) = plots.figure(1, 2, height=2.4)
        time = path.time[path.spectrum_steps]
        shades = np.linspace(1, 0.25, _DIRECTIONS)
        for values, shade in zip(path.singular_values.T, shades, strict=False):
            left.plot(time, values, color=plots.OKABE_ITO[0], alpha=shade)
        _against_time(left, outcome)
        left.set(ylim=(0, None), ylabel=f"{_DIRECTIONS} largest singular values")
        for solution in (outcome.small, outcome.convex, outcome.large):
            if solution is not None:
                values = solution.singular_values
                right.plot(np.arange(1, len(values) + 1), values, label=solution.name)
        right.set(yscale="log", xlabel="number", ylabel="singular value")
        largest = max(each.singular_values[0] for each in outcome.solutions)
        least = 1e-4 * outcome.small.singular_values[0]
        shown = max(int((each.singular_values > least).sum()) for each in outcome.solutions)
        right.set(xlim=(0, shown + 1), ylim=(least, 30 * largest))
        right.legend(loc="upper right")
    return fig


def photograph(task: Task, picture: Float[np.ndarray, "height width"], outcome: Outcome) -> Figure:
    """The picture, what is seen of it, and what two solutions make of that."""
    observed = np.ones((*task.shape, 3)) * np.array([1.0, 0.85, 0.6])
    observed[task.mask] = picture[task.mask, None]
    panels = {"original": picture, f"trained on: {task.mask.mean():.0%} of the pixels": observed}
    for solution in (outcome.small, outcome.convex):
        if solution is not None:
            title = f"{solution.name}: error {solution.errors[2]:.3f}"
            panels[title] = solution.W + task.offset
    with plots.style():
        fig, axes = plots.figure(2, 2, height=4.0)
        for axis, (title, image) in zip(axes.flat, panels.items(), strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title)
        for axis in axes.flat:
            axis.set_axis_off()
    return fig


def _against_time(axis: Axes, outcome: Outcome) -> None:
    """Time along a logarithmic axis, and where training stops."""
    path = outcome.path
    axis.set(xlabel="time × first growth rate")
    if path.time[path.spectrum_steps[-1]] == 0:  # hardly a step was taken
        return
    axis.axvline(path.time[path.best_step], color="0.35", linestyle=":", linewidth=0.8)
    axis.set(xscale="log", xlim=(_begin(outcome), path.time[-1]))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _begin(outcome: Outcome) -> float:
    """The time from which on the axes are drawn: shortly before anything is learned."""
    path = outcome.path
    learned = path.time[path.train < 0.99 * path.train[0]]
    moved = path.time[path.time > 0]
    return next(iter([*learned, *moved]), 0.0) / 2
