"""Adam on a scalar quadratic: the second moment outlives the gradient, and then the loss spikes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.claims import Claim, Target, exact, share
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes.quadratic import figures
from experiments.spikes.quadratic.config import EXPERIMENT, Config
from experiments.spikes.quadratic.measure import extremes_probe, stability_probe
from experiments.spikes.quadratic.stages import Stages, stages
from phenodl import probes, sweep, training
from phenodl.optim import adam
from phenodl.protocol import Layout, Problem
from phenodl.results import final
from phenodl.spikes import detect

SPIKE = "SPIKE (arXiv 2506.04805)"

PROBLEM = Problem(
    init=lambda key, data, hyper: jnp.ones(()), loss=lambda theta, batch: theta**2 / 2
)
ADAM = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
GRADIENT_DESCENT = training.from_optax(lambda hyper: optax.sgd(hyper["learning_rate"]))
ELEMENTWISE = Layout(width=500)
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
        probes=[probes.loss(), stability_probe()],
    )
    recorder.train(
        "gradient-descent",
        PROBLEM,
        GRADIENT_DESCENT,
        sweep.product(key=key, learning_rate=[eta]),
        steps=config.steps,
        probes=[probes.loss()],
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
        probes=[extremes_probe()],
        layout=ELEMENTWISE,
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about decay, crossing and spike, with trajectories and phase diagrams."""
    adams, descent, diagram = (
        results[name] for name in ("adam", "gradient-descent", "phase-diagram")
    )
    window = min(detect.ring_down(config.b1), adams.sizes["step"])
    found = {float(b2): stages(adams.sel(b2=b2), config.b1) for b2 in adams.b2.values}
    control = found.pop(config.control_b2)
    measured = {name: each for name, each in diagram.items() if "step_chunk" in each.dims}
    last = {name: final(each) for name, each in measured.items()}
    points = xr.Dataset(last, attrs=diagram.attrs)
    return Analysis(
        claims=[
            *trajectory_claims(found, config.control_b2, control, descent),
            *diagram_claims(points),
        ],
        figures={
            "trajectories": figures.trajectories(adams, descent, found, window),
            "phase-diagram": figures.phase_diagram(points),
        },
        tables={"stages": [{"b2": b2} | stage._asdict() for b2, stage in found.items()]},
    )


def trajectory_claims(
    found: Mapping[float, Stages], control_b2: float, control: Stages, descent: xr.Dataset
) -> list[Claim]:
    """Claims about the stages of a spike, and about two trajectories without one."""
    spiking = {b2: stage for b2, stage in found.items() if min(stage[:4]) >= 0}
    errors = [abs(stage.decay - b2) for b2, stage in spiking.items()]
    delays = [abs(stage.peak - stage.back) for stage in spiking.values()]
    return [
        _claim(
            "decay",
            "Before the crossing v decays by the factor β2 per step: largest error over β2",
            f"{SPIKE}, decay of the preconditioner",
            exact(max(errors, default=np.nan)),
            len(errors),
            Target("<", 1e-4),
        ),
        _claim(
            "peak",
            "The loss peaks as the curvature returns below 2/η: steps between the two, at most",
            f"{SPIKE}, growth of the preconditioner",
            exact(max(delays, default=np.nan)),
            len(delays),
            Target("<=", 2),
        ),
        _claim(
            "control",
            f"At β2 = {control_b2:g} the curvature never crosses and the loss never spikes: "
            "crossings and spikes",
            SPIKE,
            exact((control.crossing >= 0) + (control.trigger >= 0)),
            1,
            Target("<=", 0),
        ),
        _claim(
            "gradient-descent",
            "At the same η the loss of gradient descent never increases: steps on which it does",
            SPIKE,
            exact((np.diff(descent.loss.values) > 0).sum()),
            descent.loss.size - 1,
            Target("<=", 0),
        ),
    ]


def diagram_claims(diagram: xr.Dataset) -> list[Claim]:
    """Claims about all points of the phase diagrams."""
    spiked = diagram.first_spike >= 0
    warned = spiked & (diagram.first_crossing >= 0)
    warned &= diagram.first_crossing <= diagram.first_spike
    forgetful = diagram.b2 < diagram.b1
    silent = forgetful & (diagram.first_crossing < 0)
    forgetful = forgetful & xr.ones_like(spiked)
    return [
        _claim(
            "crossing-precedes-spike",
            "A spike of two decades or more comes after the curvature has crossed 2/η",
            SPIKE,
            share(warned.sum(), spiked.sum()),
            int(spiked.sum()),
            Target(">=", 0.99),
        ),
        _claim(
            "no-crossing-below-b1",
            "The curvature never crosses 2/η where β2 < β1",
            "derived: v then decays no slower than the swinging gradient",
            share(silent.sum(), forgetful.sum()),
            int(forgetful.sum()),
            Target(">=", 0.99),
        ),
    ]


def _claim(name: str, *rest: Any) -> Claim:
    statement, source, (measured, interval), n, target = rest
    return Claim(f"{EXPERIMENT.name}/{name}", statement, source, measured, interval, n, target)
