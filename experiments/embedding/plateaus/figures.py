"""The figures: curves with their levels, units on the circle and in time, gaps, the control."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from experiments.embedding.plateaus import rests
from experiments.embedding.plateaus.rests import MISSING, History, Rest
from experiments.embedding.plateaus.starts import LEADER
from phenodl import plots
from phenodl.embedding.catalogue import Entry

Found = Sequence[Sequence[Rest]]

TITLES = {
    "condensing": "condensing start",
    "leader": "one unit ahead",
    "gaussian": "Gaussian start",
}
_LEAST = 1e-17  # smaller gaps are rounding, and are drawn there
_NAMES = {1: "one unit", 2: "two units"}
_INSTANTS = 160  # at which orientations are drawn


def curves(
    histories: Mapping[str, History],
    found: Mapping[str, Found],
    known: Sequence[Entry],
    run: Mapping[str, int],
) -> Figure:
    """Loss and gradient norm of a run from each start, on one target, with the critical losses.

    Args:
        histories: by start.
        found: the rests of all runs, by start.
        known: the catalogue of the target.
        run: the one to draw, by start.
    """
    with plots.style():
        fig, axes = plots.figure(
            2, len(histories), height=3.8, sharex="col", sharey="row", squeeze=False
        )
        for (name, history), (descent, slope) in zip(histories.items(), axes.T, strict=True):
            row, resting = run[name], found[name][run[name]]
            floor = max(history.loss[row].min(), 1e-12)
            for each in known:
                units = each.hidden[0]
                if floor / 3 < each.loss < 0.9 * history.loss[row, 0]:
                    color = plots.OKABE_ITO[units]
                    descent.axhline(each.loss, color=color, linewidth=0.6, linestyle="--")
            descent.plot(history.step, history.loss[row], color="k")
            slope.plot(history.step, history.grad_norm[row], color="k")
            for axis, curve in ((descent, history.loss[row]), (slope, history.grad_norm[row])):
                _mark(axis, history, curve, resting)
            descent.set(title=TITLES[name], yscale="log")
            slope.set(yscale="log")
            _time(slope, history)
        axes[0, 0].set(ylabel="mean squared error")
        axes[1, 0].set(ylabel="gradient norm")
        for units, name in _NAMES.items():
            axes[0, 0].plot(
                [], [], "--", color=plots.OKABE_ITO[units], label=f"critical points of {name}"
            )
            axes[1, 0].plot([], [], "o", color=plots.OKABE_ITO[units], markersize=4, label=name)
        axes[0, 0].legend(loc="lower left")
        axes[1, 0].legend(loc="lower left", title="at rest as", title_fontsize=7)
    return fig


def circle(history: History, resting: Sequence[Rest], run: int) -> Figure:
    """The directions of (input weight, bias) at the start, at the rests and at the end of a run."""
    instants = {"start": 0}
    for units, name in _NAMES.items():
        rest = rests.first(resting, units)
        if rest:
            instants[f"at rest as {name}"] = rest.place.index
    instants["end"] = len(history.step) - 1
    with plots.style():
        fig, axes = plots.figure(1, len(instants), height=1.75, squeeze=False)
        around = np.linspace(0, 2 * np.pi, 200)
        for (name, record), axis in zip(instants.items(), axes[0], strict=True):
            rows, outward = _units(history, run, record)
            ends = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
            area = 60 * np.abs(outward) / np.abs(outward).max()
            axis.plot(np.cos(around), np.sin(around), color="0.8", linewidth=0.6)
            axis.scatter(*ends.T, s=area, color=_colors(len(ends)), alpha=0.6, linewidths=0)
            axis.set(title=f"{name}\nstep {history.step[record]}", xticks=[], yticks=[])
            axis.set(xlabel="input weight", aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
            axis.spines[:].set_visible(False)
        axes[0, 0].set(ylabel="bias")
    return fig


def orientation(
    histories: Mapping[str, History], found: Mapping[str, Found], run: Mapping[str, int]
) -> Figure:
    """The orientation of every unit in time, as large as its output weight is."""
    with plots.style():
        fig, axes = plots.figure(1, len(histories), height=2.4, sharey=True, squeeze=False)
        for (name, history), axis in zip(histories.items(), axes[0], strict=True):
            last = len(history.step) - 1
            records = np.unique(np.append(0, np.geomspace(1, last, _INSTANTS).astype(int)))
            rows, outward = _units(history, run[name], records)
            angle = np.degrees(np.arctan(rows[..., 1] / rows[..., 0]))
            area = 6 * np.abs(outward) / np.abs(outward).max(-1, keepdims=True)
            step = np.broadcast_to(history.step[records][:, None], angle.shape)
            color = np.tile(_colors(angle.shape[1], name == "leader"), (len(records), 1))
            axis.scatter(step.ravel(), angle.ravel(), s=area.ravel(), c=color, linewidths=0)
            for rest in found[name][run[name]]:
                axis.axvline(history.step[rest.place.index], color="0.7", linewidth=0.6, zorder=0)
            axis.set(title=TITLES[name], yticks=(-90, -45, 0, 45, 90))
            _time(axis, history)
        axes[0, 0].set(ylabel="angle of (input weight,\nbias) as a line, degrees")
    return fig


def gaps(
    ones: Mapping[str, Float[np.ndarray, "targets keys"]],
    twos: Float[np.ndarray, " targets"],
) -> Figure:
    """The distance in loss of the rests from the critical points, over targets and keys.

    Args:
        ones: for rests as one unit, by start.
        twos: for rests as two units, with one unit ahead.
    """
    shown = [(f"{TITLES[name]}: rest as one unit", values) for name, values in ones.items()]
    shown.insert(2, ("one unit ahead: rest as two units", twos[:, None]))
    order = np.argsort(ones["condensing"].max(1))
    colors = (plots.OKABE_ITO[1], plots.OKABE_ITO[4], plots.OKABE_ITO[2], "0.5")
    with plots.style():
        fig, axis = plots.figure(height=2.8)
        place = np.arange(len(order))
        for (label, values), marker, color in zip(shown, "osD^", colors, strict=True):
            columns = np.clip(np.abs(values[order]), _LEAST, MISSING)
            for column in columns.T:
                axis.plot(place, column, marker, color=color, markersize=3, label=label)
                label = "_"
        plots.threshold(axis, 1e-4, "1e-4")
        plots.threshold(axis, MISSING, "no such rest", linestyle=":")
        axis.set(yscale="log", ylim=(_LEAST / 3, 30), xlabel="target, ordered", xticks=[])
        axis.set(ylabel="distance in loss from\nthe critical point")
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def control(
    histories: Mapping[str, History], condensed: Mapping[str, Float[np.ndarray, "runs records"]]
) -> Figure:
    """Loss and condensation from a condensing and from a Gaussian start, over all targets."""
    with plots.style():
        fig, (descent, aligned) = plots.figure(1, 2, height=2.3)
        for color, (name, values) in zip(plots.OKABE_ITO, condensed.items(), strict=False):
            history = histories[name]
            for row, losses in enumerate(history.loss):
                label = TITLES[name] if row == 0 else None
                descent.plot(
                    history.step, losses, color=color, alpha=0.4, linewidth=0.6, label=label
                )
            plots.band(aligned, history.step, values, color=color, label=TITLES[name])
            _time(descent, history)
            _time(aligned, history)
        descent.set(ylabel="mean squared error", yscale="log")
        aligned.set(ylabel="mean |cos| of two units", ylim=(0, 1.05))
        aligned.legend(loc="lower left")
    return fig


def _time(axis: Axes, history: History) -> None:
    """Steps on a scale that is logarithmic from the first record on, and shows the start."""
    axis.set_xscale("symlog", linthresh=history.step[1], linscale=0.5)
    axis.set_xlim(-0.1 * history.step[1], history.step[-1] * 1.3)
    powers = 10.0 ** np.arange(1, 10)
    axis.set_xticks([0, *powers[(powers > history.step[1]) & (powers < history.step[-1])]])
    axis.set_xlabel("step")


def _mark(axis: Axes, history: History, curve: np.ndarray, resting: Sequence[Rest]) -> None:
    for rest in resting:
        color = plots.OKABE_ITO[rest.units] if rest.units in _NAMES else "0.6"
        axis.plot(
            history.step[rest.place.index], curve[rest.place.index], "o", color=color, markersize=4
        )


def _units(
    history: History, run: int, records: int | np.ndarray
) -> tuple[Float[np.ndarray, "*records units 2"], Float[np.ndarray, "*records units"]]:
    """(Input weight, bias) of every unit, turned so that the output weight is positive, and that.

    The activation is odd: a unit is the same after all its weights change sign.
    """
    inner, outer = history.params["layer_0"], history.params["layer_1"]
    outward = outer["weight"][run, records][..., 0, :]
    rows = np.stack([inner["weight"][run, records][..., 0], inner["bias"][run, records]], -1)
    return np.sign(outward)[..., None] * rows, np.abs(outward)


def _colors(units: int, ahead: bool = True) -> Float[np.ndarray, "units 4"]:
    """All units in one colour, but for the one that is ahead."""
    colors = np.tile(to_rgba(plots.OKABE_ITO[0]), (units, 1))
    if ahead:
        colors[LEADER] = to_rgba(plots.OKABE_ITO[1])
    return colors
