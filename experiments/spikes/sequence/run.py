"""Adam on mini-batches of the anchor task: do averages over ten steps foretell the spikes?"""

from collections.abc import Mapping
from dataclasses import asdict

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes import figures, ledger
from experiments.spikes.measurements import ADAM, SPIKE, measurements
from experiments.spikes.scores import WINDOW, find_spikes, find_stages, foresight
from experiments.spikes.sequence.config import EXPERIMENT, Config
from experiments.spikes.sequence.measure import (
    SIGNAL,
    STRETCH,
    Decays,
    by_chance,
    high_only,
    leads,
    stage_two_decays,
)
from experiments.spikes.stage_figure import stages
from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.data.sequences import anchor_sequences
from phenodl.models import transformer
from phenodl.models.losses import smoothing_floor
from phenodl.protocol import Layout, Problem
from phenodl.spikes.decoupling import layer_names
from phenodl.spikes.detect import Spikes

NAME = EXPERIMENT.name
VOCABULARY, LENGTH, HEADS = 64, 8, 4
MANY = Target(">", 0.25)
"""What shares of seeds and of spikes must exceed: five seeds decide no more."""

LEAF = 3
"""Number of keys that name a leaf: block, part, weight or bias."""

SHOWN = ("tokens", "block_0/query/kernel", "block_0/up/kernel", "head/kernel")
"""Leaves of which the figure shows g² and v̂."""


def problem(config: Config) -> Problem:
    """The same sequences for all seeds."""
    return transformer.problem(
        *anchor_sequences(seed=0, n=config.sequences, length=LENGTH, vocabulary=VOCABULARY),
        transformer.Sizes(VOCABULARY, LENGTH, config.width, config.layers, HEADS),
        batch_size=config.batch_size,
        norm=config.norm,
        smoothing=config.smoothing,
    )


def train(config: Config, recorder: Recorder) -> None:
    """One training of all seeds."""
    recorder.train(
        "adam",
        problem(config),
        ADAM,
        sweep.product(
            key=jax.random.key(0),
            seed=range(config.first_seed, config.first_seed + config.seeds),
            **asdict(config.optimizer),
        ),
        steps=config.steps,
        probes=measurements(quotients=[SIGNAL], products=0, depth=LEAF, every=config.every),
        layout=Layout(width=1, compiler_options=QUICKLY),
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about spikes, about what warns of them, and about the second moment before."""
    runs = results["adam"]
    floor = smoothing_floor(VOCABULARY, config.smoothing)
    spikes = find_spikes(runs.loss, config.rise, config.optimizer.b1, floor=floor, width=WINDOW)
    high = high_only(spikes, config.height)
    found = {SIGNAL: foresight(runs, SIGNAL, spikes, shifts=config.shifts, width=WINDOW)}
    parts = find_stages(runs, spikes, signal=SIGNAL, width=WINDOW)
    decays = stage_two_decays(runs, high, parts, config.optimizer.b2)
    smooth = {"width": WINDOW, "floor": floor}
    return Analysis(
        claims=[
            *spike_claims(config, runs, high),
            ledger.area(NAME, SIGNAL, found[SIGNAL]),
            *decay_claims(decays),
        ],
        figures={
            "curvatures": figures.curvatures(runs, spikes, signals=[SIGNAL], **smooth),
            "around-trigger": figures.around_trigger(runs, high, signals=[SIGNAL], **smooth),
            "stages": stages(runs, spikes, parts, signal=SIGNAL, **smooth),
            "second-moments": figures.second_moments(shown(config, runs), spikes, SHOWN),
        },
        tables={"alarms": ledger.rows(found)},
    )


def spike_claims(config: Config, runs: xr.Dataset, high: Spikes) -> list[Claim]:
    """Claims about the spikes of many decades and the warnings of them."""
    chance = by_chance(runs, high, share=0.5)
    seed = np.nonzero(high.trigger >= 0)[0]
    before_peak = leads(runs, high, np.asarray(high.peak), share=1.0) > 0
    before_trigger = leads(runs, high, np.asarray(high.trigger), share=0.5) >= 0
    gain = np.array([before_trigger[seed == one].mean() - chance[one] for one in np.unique(seed)])
    mean = f"The {WINDOW}-step mean of B on the batch of the step"
    return [
        share_claim(
            f"{NAME}/spikes",
            f"The loss above its floor spikes by {config.height:g} decades or more: share of seeds",
            SPIKE,
            high.count > 0,
            MANY,
        ),
        share_claim(
            f"{NAME}/before-peak",
            f"{mean} passes 2/η before the peak: share of spikes",
            f"{SPIKE}, sustained criterion",
            before_peak,
            MANY,
        ),
        share_claim(
            f"{NAME}/before-trigger",
            f"{mean} passes half of 2/η by the trigger: share of spikes",
            f"{SPIKE}, sustained criterion",
            before_trigger,
            MANY,
        ),
        bootstrap_claim(
            f"{NAME}/before-trigger-chance",
            f"{mean} passes half of 2/η before more triggers than before other steps: difference "
            "of the two shares, mean over seeds that spike",
            "shifted triggers",
            gain[np.isfinite(gain)],
            Target(">", 0),
            np.mean,
        ),
    ]


def decay_claims(decays: Decays) -> list[Claim]:
    """Claims about the second stage, leaf by leaf."""
    source = f"{SPIKE}, decay of the preconditioner"
    return [
        share_claim(
            f"{NAME}/decoupled",
            f"Some leaf has g² < v/10 for {STRETCH} steps in a row before B crosses: "
            "share of spikes",
            source,
            decays.leaves > 0,
            MANY,
        ),
        bootstrap_claim(
            f"{NAME}/decay",
            "In the leaves that decouple v falls by β2 per step: error of the worst leaf in units "
            "of 1 - β2, median over spikes (the window alone bounds it by 0.1)",
            source,
            decays.error[np.isfinite(decays.error)],
            Target("<", 0.05),
        ),
    ]


def shown(config: Config, runs: xr.Dataset) -> xr.Dataset:
    """The runs with the moments of the leaves in :data:`SHOWN` alone."""
    names = leaves(config)
    places = [names.index(name) for name in SHOWN]
    return runs.isel(squared_gradient_0=places, second_moment_0=places)


def leaves(config: Config) -> tuple[str, ...]:
    """The names of the parameters' leaves, in the order of the records."""
    model = problem(config)
    shapes = jax.eval_shape(lambda key: model.init(key, model.data, {}), jax.random.key(0))
    return layer_names(shapes, LEAF)
