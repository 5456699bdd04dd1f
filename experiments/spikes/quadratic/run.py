"""Adam on a scalar quadratic: the second moment outlives the gradient, and then the loss spikes."""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes.measurements import ADAM
from experiments.spikes.quadratic import figures, ledger, spectrum, theory
from experiments.spikes.quadratic.config import Config
from experiments.spikes.quadratic.measure import extremes_probe, stability_probe
from experiments.spikes.quadratic.spikes import crossing_row, spike_row, trigger_row
from experiments.spikes.quadratic.stages import stages
from phenodl import probes, sweep, training
from phenodl.protocol import Layout, Problem
from phenodl.results import final
from phenodl.spikes import detect

PROBLEM = Problem(
    init=lambda key, data, hyper: jnp.ones(()), loss=lambda theta, batch: theta**2 / 2
)
GRADIENT_DESCENT = training.from_optax(lambda hyper: optax.sgd(hyper["learning_rate"]))
ELEMENTWISE = Layout(width=1024)
"""Every operation is on one number per run: wide blocks fill the vector units."""


def train(config: Config, recorder: Recorder) -> None:
    """Trajectories of Adam and gradient descent, and the phase diagrams."""
    key = jax.random.key(0)
    eta, b1 = config.learning_rate, config.b1
    b2 = [*config.b2, config.control_b2]
    recorder.train(
        "adam",
        PROBLEM,
        ADAM,
        sweep.product(key=key, b2=b2, learning_rate=eta, b1=b1),
        steps=config.steps,
        chunk=config.steps,
        probes=[probes.loss(), stability_probe()],
    )
    recorder.train(
        "gradient-descent",
        PROBLEM,
        GRADIENT_DESCENT,
        sweep.product(key=key, learning_rate=[eta]),
        steps=config.steps,
        chunk=config.steps,
        probes=[probes.loss()],
    )
    recorder.train(
        "edge",
        PROBLEM,
        ADAM,
        sweep.product(
            key=key, b1=config.edge_b1, eps=config.edge_eps, b2=config.edge_b2, learning_rate=eta
        ),
        steps=config.edge_steps,
        chunk=config.edge_steps,
        probes=[probes.loss(), stability_probe()],
        layout=Layout(width=len(config.edge_b1) * len(config.edge_eps)),
    )
    recorder.train(
        "spectrum",
        spectrum.PROBLEM,
        ADAM,
        sweep.product(
            key=key,
            rotation=spectrum.instances(config.eigenvalues, seeds(config)),
            eps=config.spectrum_eps,
            b1=b1,
            b2=config.edge_b2,
            learning_rate=eta,
        ),
        steps=config.edge_steps,
        chunk=config.edge_steps,
        probes=[probes.loss(), spectrum.motion_probe()],
        layout=Layout(width=(1 + config.rotations) * len(config.spectrum_eps)),
    )
    recorder.train(
        "phase-diagram",
        PROBLEM,
        ADAM,
        sweep.product(
            key=key,
            b1=config.diagram_b1,
            b2=1 - np.geomspace(*config.diagram_forgetting, config.points),
            learning_rate=np.geomspace(*config.diagram_learning_rate, config.points),
        ),
        steps=config.steps,
        chunk=-(-config.steps // 2),
        probes=[extremes_probe()],
        layout=ELEMENTWISE,
    )


def seeds(config: Config) -> range:
    """The seeds of the rotations."""
    return range(config.first_seed, config.first_seed + config.rotations)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """What was measured beside what is derived, with trajectories and phase diagrams."""
    adams, descent, edge, spectra, diagram = (
        results[name] for name in ("adam", "gradient-descent", "edge", "spectrum", "phase-diagram")
    )
    window = min(detect.ring_down(config.b1), adams.sizes["step"])
    found = {float(b2): stages(adams.sel(b2=b2), config.b1) for b2 in adams.b2.values}
    control = found.pop(config.control_b2)
    measured = {name: each for name, each in diagram.items() if "step_chunk" in each.dims}
    last = {name: final(each) for name, each in measured.items()}
    points = xr.Dataset(last, attrs=diagram.attrs)
    crossings = crossing_table(config, edge) + spectrum_crossings(config, spectra)
    overshoots = spike_table(config, adams, edge)
    triggers = trigger_table(config, adams)
    rotated = rotation_table(config, spectra)
    return Analysis(
        claims=[
            *ledger.trajectory_claims(found, config.b1, config.control_b2, control, descent),
            *ledger.crossing_claims(crossings),
            *ledger.spike_claims(overshoots),
            *ledger.trigger_claims(triggers),
            *ledger.rotation_claims(rotated),
            *ledger.diagram_claims(points),
        ],
        figures={
            "trajectories": figures.trajectories(adams, descent, found, window),
            "phase-diagram": figures.phase_diagram(points),
            "crossings": figures.crossings(crossings, config.edge_b2),
            "spectrum": figures.spectrum(curvatures(config, spectra), config.learning_rate),
            "ring-down": figures.ring_down(
                adams.sel(b2=max(config.b2)), found[max(config.b2)], window
            ),
        },
        tables={
            "stages": [{"b2": b2} | stage._asdict() for b2, stage in found.items()],
            "crossings": crossings,
            "overshoots": overshoots,
            "triggers": triggers,
            "rotations": rotated,
        },
    )


def crossing_table(config: Config, edge: xr.Dataset) -> list[dict[str, Any]]:
    """When each run that looks for the edge crosses it, for each β1 and ε."""
    rows = []
    for b1, eps in itertools.product(config.edge_b1, config.edge_eps):
        run = edge.sel(b1=b1, eps=eps)
        point = {"learning_rate": config.learning_rate, "b1": b1, "b2": config.edge_b2, "eps": eps}
        size = np.sqrt(2 * run.loss.values)
        rows.append(crossing_row(point, size, run.second_moment.values, run.curvature.values))
    return rows


def curvatures(config: Config, spectra: xr.Dataset) -> xr.DataArray:
    """The preconditioned curvature along each axis of the aligned quadratic, for each ε."""
    run = spectra.isel(rotation=spectrum.ALIGNED).transpose("eps", "step", ...)
    factor = theory.momentum_factor(config.b1) / (1 - config.b1 ** (run.step.values[:, None] + 1))
    diagonal = [
        spectrum.preconditioner(v, config.edge_b2, eps)
        for eps, v in zip(config.spectrum_eps, run.second_moment.values, strict=True)
    ]
    return xr.DataArray(
        factor * np.stack(diagonal) * np.asarray(config.eigenvalues),
        {"eps": list(config.spectrum_eps), "eigenvalue": list(config.eigenvalues)},
        ("eps", "step", "eigenvalue"),
    )


def spectrum_crossings(config: Config, spectra: xr.Dataset) -> list[dict[str, Any]]:
    """When each coordinate of the aligned quadratic crosses, for each ε."""
    run = spectra.isel(rotation=spectrum.ALIGNED)
    felt = curvatures(config, spectra)
    rows = []
    for eps, (axis, eigenvalue) in itertools.product(
        config.spectrum_eps, enumerate(config.eigenvalues)
    ):
        some = run.sel(eps=eps).transpose("step", ...)
        size, v = np.abs(some.gradient.values[:, axis]), some.second_moment.values[:, axis]
        point = {
            "learning_rate": config.learning_rate,
            "b1": config.b1,
            "b2": config.edge_b2,
            "eps": eps,
        }
        curvature = felt.sel(eps=eps).values[:, axis]
        rows.append(crossing_row(point, size, v, curvature, eigenvalue))
    return rows


def spike_table(config: Config, adams: xr.Dataset, edge: xr.Dataset) -> list[dict[str, Any]]:
    """Overshoot and ring-down of all trajectories without ε."""
    eta = config.learning_rate
    rows = [spike_row(adams.sel(b2=b2), eta, config.b1, b2) for b2 in config.b2]
    smallest = edge.sel(eps=min(config.edge_eps))
    return rows + [spike_row(smallest.sel(b1=b1), eta, b1, config.edge_b2) for b1 in config.edge_b1]


def trigger_table(config: Config, adams: xr.Dataset) -> list[dict[str, Any]]:
    """The detector's triggers on all trajectories, with and without the window of the ring-down."""
    # Little momentum, or none, has the window of two steps as well: it counts once.
    windows = {detect.ring_down(b1): b1 for b1 in (0.0, config.b1)}
    return [
        {"b2": b2, "window": window} | trigger_row(adams.sel(b2=b2), b1)
        for window, b1 in windows.items()
        for b2 in config.b2
    ]


def rotation_table(config: Config, spectra: xr.Dataset) -> list[dict[str, Any]]:
    """The first spike of each rotated quadratic."""
    hessians = spectrum.instances(config.eigenvalues, seeds(config))["hessian"]
    smallest = spectra.sel(eps=min(config.spectrum_eps)).transpose("rotation", "step", ...)
    rows = []
    for number, seed in enumerate(seeds(config), start=spectrum.ALIGNED + 1):
        spike = spectrum.first_spike(
            smallest.isel(rotation=number),
            hessians[number],
            learning_rate=config.learning_rate,
            b1=config.b1,
            b2=config.edge_b2,
        )
        rows.append({"seed": seed} | spike._asdict())
    return rows
