"""The claims of ``spikes-language``."""

import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim
from experiments.spikes import ledger
from experiments.spikes.language.config import EXPERIMENT, Config
from experiments.spikes.language.outcome import SIGNALS, Outcome, first_leads
from experiments.spikes.measurements import SPIKE

NAME = EXPERIMENT.name

_KEYS = {"curvature_b": "b", "gradient": "gradient"}

_CROSSINGS = {
    "curvature_b": "B, averaged over 10 steps, passes 2/η",
    "gradient": "The gradient norm, averaged over 10 steps, passes twice its median of 200 steps",
}

_SOURCES = {"curvature_b": SPIKE, "gradient": "measured here"}


def claims(config: Config, runs: xr.Dataset, outcome: Outcome) -> list[Claim]:
    """Spikes, what precedes and foretells them, and what a smaller β2 does, over seeds."""
    own = outcome.heights[config.optimizer.b2]
    return [
        bootstrap_claim(
            f"{NAME}/spikes",
            "On real text the loss spikes by a decade above its floor (10-step mean): height of a "
            "run's highest spike, median over seeds",
            SPIKE,
            own,
            Target(">=", 1.0),
        ),
        # On mini-batches g² is never so small that it adds nothing.
        ledger.decays(NAME, runs, config.optimizer.b2, expected="fails"),
        *(claim for signal in SIGNALS for claim in _of_alarms(signal, outcome)),
        *(
            _smaller(b2, own[: len(heights)], heights)
            for b2, heights in outcome.heights.items()
            if b2 != config.optimizer.b2
        ),
    ]


def _of_alarms(signal: str, outcome: Outcome) -> list[Claim]:
    """A signal sounds before the spike, and at no other time."""
    found = outcome.found[signal]
    return [
        bootstrap_claim(
            f"{NAME}/{_KEYS[signal]}-lead",
            f"{_CROSSINGS[signal]} before a run's first spike is triggered: steps, -1 if it does "
            "not, median over seeds",
            _SOURCES[signal],
            first_leads(found, outcome.spikes),
            Target(">=", 0),
            ledger.finite_median,
        ),
        bootstrap_claim(
            f"{NAME}/{_KEYS[signal]}-false",
            f"{_CROSSINGS[signal]} at no other time: false alarms per run",
            _SOURCES[signal],
            found.counts.false,
            Target("<=", 0.2),
            np.mean,
        ),
    ]


def _smaller(b2: float, own: np.ndarray, heights: np.ndarray) -> Claim:
    """At .99 spikes come earlier and are as high; at .95 there are many small ones."""
    return bootstrap_claim(
        f"{NAME}/b2-{b2:g}",
        f"With β2 = {b2:g} the highest spike is lower, or there is none: decades less than of the "
        "same seed, median",
        f"{SPIKE}, small β2",
        own - heights,
        Target(">", 0.5),
        expected="holds" if b2 < 0.98 else "fails",
    )
