"""Loss spikes repeated with the preconditioner held fixed, or decaying whatever the gradient does.

A first training, of the control alone, shows where the curvature begins to grow before each spike.
A second one runs all arms in the same program, so that each equals its control bit for bit until
that step.
"""

from collections.abc import Mapping
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes.branches import Approaches, approaches
from experiments.spikes.explanations import figures, ledger
from experiments.spikes.explanations.branches import ARMS, branched
from experiments.spikes.explanations.config import Config
from experiments.spikes.explanations.counterfactual import eigenvalues_probe
from experiments.spikes.explanations.networks import METHOD, network, problem, with_data
from experiments.spikes.explanations.outcome import outcome
from experiments.spikes.scores import find_spikes
from phenodl import probes, sweep
from phenodl.compiler import QUICKLY
from phenodl.protocol import Layout
from phenodl.spikes import curvatures

LAYOUT = Layout(width=8, blocks=2, compiler_options=QUICKLY)
"""Of every training: rounding depends on it, and arms have to agree with the control."""


def train(config: Config, recorder: Recorder) -> None:
    """The control, and then all arms, of each network."""
    for name in config.networks:
        settings = network(config, name)
        model, own = problem(name, settings.width, config.first_seed, config.seeds)
        hyper = asdict(settings.optimizer)
        seeds = range(config.first_seed, config.first_seed + config.seeds)
        how = {
            "steps": settings.steps,
            "chunk": settings.steps,
            "layout": LAYOUT,
            "probes": [
                probes.loss(),
                curvatures.threshold_probe(every=config.every),
                eigenvalues_probe(config.products, config.every),
            ],
        }
        key = jax.random.key(0)
        runs = with_data(sweep.product(key=key, arm=[0], seed=seeds, **hyper), own)
        runs = branched(runs, np.full(config.seeds, -1))
        first = recorder.train(f"{name}-control", model, METHOD, runs, **how)
        found = find_approaches(config, name, first)
        own["anchors"] = jnp.asarray(found.trough, jnp.int32)
        runs = with_data(sweep.product(key=key, arm=range(len(ARMS)), seed=seeds, **hyper), own)
        runs = branched(runs, found.highest().trough)
        recorder.train(f"{name}-arms", model, METHOD, runs, **how)


def find_approaches(config: Config, name: str, control: xr.Dataset) -> Approaches:
    """The approaches to all spikes of the control."""
    run = control.isel(arm=0)
    spikes = find_spikes(run.loss, config.rise, network(config, name).optimizer.b1)
    ratio = run.lambda_max_adam / run.threshold
    return approaches(ratio.transpose("seed", ...).values, config.every, spikes)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """What the growth of the curvature owes to each factor, and what becomes of the arms."""
    outcomes = {
        name: outcome(
            results[f"{name}-arms"],
            find_approaches(config, name, results[f"{name}-control"]),
            network(config, name).optimizer,
            config,
        )
        for name in config.networks
    }
    return Analysis(
        claims=[claim for name, each in outcomes.items() for claim in ledger.claims(name, each)],
        figures={
            "growth": figures.growth(outcomes),
            "sharpness": figures.sharpness(outcomes),
            "arms": figures.arms(outcomes),
        },
        tables={"growth": ledger.rows(outcomes)},
    )
