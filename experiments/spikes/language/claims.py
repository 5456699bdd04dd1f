"""The claims of ``spikes-language``."""

import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.spikes import ledger
from experiments.spikes.language.config import EXPERIMENT, Config
from experiments.spikes.language.outcome import SIGNALS, Outcome, first_leads, foretold
from experiments.spikes.measurements import SPIKE
from experiments.spikes.scores import START

NAME = EXPERIMENT.name

DECADE = 1.0
"""How high a spike is that the claims count."""

MANY = Target(">=", 0.25)
"""Four of five seeds, the number that is fresh in quick, are enough to decide it."""

_KEYS = {"curvature_b": "b", "gradient": "gradient"}

_CROSSINGS = {
    "curvature_b": "B, averaged over 10 steps, passes 2/η",
    "gradient": "The gradient norm, averaged over 10 steps, passes twice its median of 200 steps",
}

_SOURCES = {"curvature_b": SPIKE, "gradient": "measured here"}

_LEFT_OUT = f"those before step {START} or begun inside a spike left out"


def claims(config: Config, runs: xr.Dataset, outcome: Outcome) -> list[Claim]:
    """Spikes, what precedes and foretells them, and what a smaller β2 does, over seeds."""
    # A record that ends before the detector starts says nothing about any of its seeds.
    seeds = slice(None) if runs.sizes["step"] > START else slice(0)
    own = outcome.heights[config.optimizer.b2]
    return [
        share_claim(
            f"{NAME}/spikes",
            "On real text the loss spikes by a decade above its floor (10-step mean): share of "
            "seeds",
            SPIKE,
            own[seeds] >= DECADE,
            MANY,
        ),
        # On mini-batches g² is never so small that it adds nothing.
        ledger.decays(NAME, runs, config.optimizer.b2, expected="fails"),
        *(claim for signal in SIGNALS for claim in _of_alarms(signal, outcome, seeds)),
        *(
            _smaller(b2, own[: len(heights)][seeds], heights[seeds])
            for b2, heights in outcome.heights.items()
            if b2 != config.optimizer.b2
        ),
    ]


def _of_alarms(signal: str, outcome: Outcome, seeds: slice) -> list[Claim]:
    """A signal sounds before the spike, and at no other time."""
    found, name = outcome.found[signal], f"{NAME}/{_KEYS[signal]}"
    return [
        share_claim(
            f"{name}-foretells",
            f"{_CROSSINGS[signal]} before the first spike of a decade is triggered, and a run has "
            f"no false alarm ({_LEFT_OUT}): share of the seeds with such a spike",
            _SOURCES[signal],
            foretold(found, outcome.spikes, DECADE)[seeds],
            MANY,
        ),
        bootstrap_claim(
            f"{name}-lead",
            f"{_CROSSINGS[signal]} before a run's first spike is triggered: steps, -1 if it does "
            "not, median over seeds",
            _SOURCES[signal],
            first_leads(found, outcome.spikes)[seeds],
            Target(">", 0),
            ledger.finite_median,
        ),
        bootstrap_claim(
            f"{name}-false",
            f"{_CROSSINGS[signal]} at no other time: false alarms per run, {_LEFT_OUT}",
            _SOURCES[signal],
            found.counts.false[seeds],
            Target("<=", 0.2),
            np.mean,
        ),
    ]


def _smaller(b2: float, own: np.ndarray, heights: np.ndarray) -> Claim:
    """At .99 spikes come earlier and are as high; at .95 there are many small ones."""
    return bootstrap_claim(
        f"{NAME}/b2-{b2:g}",
        f"With β2 = {b2:g} the highest spike is lower by half a decade, or there is none: decades "
        "less than of the same seed, median",
        f"{SPIKE}, small β2",
        own - heights,
        Target(">", 0.5),
        expected="holds" if b2 < 0.98 else "fails",
    )
