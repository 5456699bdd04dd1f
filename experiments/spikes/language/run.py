"""Trains a decoder on real text and scores what foretells its loss spikes."""

import math
from collections.abc import Mapping

import xarray as xr

from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes import figures as shared
from experiments.spikes import ledger
from experiments.spikes.language import claims, figures, outcome
from experiments.spikes.language.config import Config
from experiments.spikes.language.task import load, problem, runs
from experiments.spikes.measurements import ADAM, measurements
from phenodl import probes
from phenodl.compiler import QUICKLY
from phenodl.footprint import describe, footprint
from phenodl.models import decoder
from phenodl.protocol import Layout
from phenodl.spikes.decoupling import layer_names

LAYOUT = Layout(width=1, compiler_options=QUICKLY)

WORTH_ANNOUNCING = 10_000_000
"""Parameters from which on memory and work are told before the training starts: to know them, the
step is compiled twice more."""


def train(config: Config, recorder: Recorder) -> None:
    """All seeds with curvatures, and some of them with other β2 and the loss alone."""
    task = load(config)
    model = problem(task, config)
    recorder.say(
        f"{task.text.name}: {len(task.text.tokens)} bytes, {len(task.text.vocabulary)} different"
        f" ones; {decoder.parameter_count(task.sizes):,} parameters"
    )
    how = {
        "steps": config.steps,
        "chunk": math.ceil(config.steps / 4),
        "layout": LAYOUT,
        # A device without a run would hold the state of a padding one.
        "devices": recorder.devices(most=config.seeds),
    }
    measured = measurements(quotients=["curvature_b"], products=0, every=config.every)
    seeds = runs(config, config.seeds)
    if decoder.parameter_count(task.sizes) >= WORTH_ANNOUNCING:
        for line in describe(footprint(model, ADAM, seeds, probes=measured, layout=LAYOUT)):
            recorder.say(line)
    recorder.train("adam", model, ADAM, seeds, probes=measured, **how)
    if config.other_seeds:
        others = runs(config, config.other_seeds, b2=config.other_b2)
        recorder.train("other-decays", model, ADAM, others, probes=[probes.loss()], **how)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Spikes and alarms of every run, and how high spikes are with other β2.

    The claims are about the help topics. Of a file of the user's own nothing is known beforehand:
    its numbers are shown, not judged.
    """
    task, (adam, others) = load(config), (results.get(name) for name in ("adam", "other-decays"))
    assert adam is not None
    seen = outcome.measure(task, config, adam, others)
    layers = layer_names(decoder.parameter_shapes(task.sizes))
    drawn = {
        "seeds": figures.seeds(adam, seen, task.floor),
        "around-trigger": figures.around_trigger(adam, seen, task.floor),
        "lead-times": figures.lead_times(seen),
        "second-moments": shared.second_moments(adam, seen.spikes, layers),
    }
    if others is not None:
        drawn["decays"] = figures.decays(adam, others, config.optimizer.b2, task.floor)
    labelled = {outcome.SIGNALS[name]: found for name, found in seen.found.items()}
    return Analysis(
        claims=claims.claims(config, adam, seen) if config.file is None else [],
        figures=drawn,
        tables={
            "seeds": outcome.seed_rows(seen, adam.seed.values),
            "alarms": ledger.rows(labelled, outcome.START),
            "decays": outcome.decay_rows(seen),
        },
    )
