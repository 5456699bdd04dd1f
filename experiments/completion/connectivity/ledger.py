"""The claims about connectivity, from what was measured."""

import math

import numpy as np

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim, share_claim
from experiments.completion.connectivity.config import EXPERIMENT, Config
from experiments.completion.connectivity.outcome import MET, ConnectedOutcome, Outcome, Reference
from phenodl.completion import Connectivity

_PAPER = "MF (arXiv 2405.13721)"
_MOST = {1e-8: 0.7, 1e-16: 0.8, 1e-30: 0.87, 1e-120: 0.94}
"""Share of connected runs that reach the minimum rank from a start, at least."""
_RATE = (1e-4, 1e-2)
"""Standard deviations between which the excess is a power law, neither saturated nor rounding."""


def claims(
    config: Config, known: Reference, outcome: Outcome, connected: ConnectedOutcome
) -> list[Claim]:
    """All claims of the experiment."""
    return [
        _converged(outcome),
        *_connected_claims(config, connected),
        *_class_claims(config.small_start, known, outcome),
        *_norm_claims(config, known, outcome),
    ]


def _converged(outcome: Outcome) -> Claim:
    rarest = outcome.converged.mean(axis=0).argmin()
    return share_claim(
        f"{EXPERIMENT.name}/converged",
        "The flow fits the observed entries (loss per entry ≤ 1e-12) within the given steps, from"
        " whichever start this happens least often.",
        "premise of the claims below, which rest on converged runs",
        outcome.converged[:, rarest],
        Target(">=", 0.95),
    )


def _connected_claims(config: Config, connected: ConnectedOutcome) -> list[Claim]:
    smallest = config.smallest_start
    converged, minimal = connected.converged, connected.minimal_rank
    missed = converged[:, smallest] & ~minimal[:, smallest]
    growth = np.log10(connected.largest[:, smallest] / connected.largest[:, config.small_start])
    std = f"{config.init_stds[smallest]:g}"
    return [
        *(
            share_claim(
                f"{EXPERIMENT.name}/connected-rank-{std:g}",
                f"From a start of {std:g} connected data lead to the minimum rank in"
                f" {_MOST[std]:.0%} of the runs or more.",
                f"{_PAPER}, Fig. 1",
                minimal[converged[:, start], start],
                Target(">=", _MOST[std]),
            )
            for start, std in enumerate(config.init_stds)
            if std in _MOST
        ),
        share_claim(
            f"{EXPERIMENT.name}/connected-rank-always",
            f"From a start of {std} connected data lead to the minimum rank, always.",
            f"{_PAPER}, Theorem on connected data, read without its condition on the dynamics",
            minimal[converged[:, smallest], smallest],
            Target(">=", 1.0),
            expected="fails",
        ),
        share_claim(
            f"{EXPERIMENT.name}/connected-rank-condition",
            f"From a start of {std} the rank is minimal where the theorem's condition is known to"
            " be met: the flow on each Ω_k ends at the best fit of rank k.",
            f"{_PAPER}, Theorem on connected data",
            minimal[converged[:, smallest] & (connected.condition == MET), smallest],
            Target(">=", 0.98),
        ),
        bootstrap_claim(
            f"{EXPERIMENT.name}/missed-rank-grows",
            "Runs that miss the minimum rank drift away as the start shrinks: decades by"
            " which their largest singular value grows.",
            "measured here: along a valley of Ω_k, until a higher rank ends the drift",
            growth[missed],
            Target(">", 0),
        ),
    ]


def _class_claims(start: int, known: Reference, outcome: Outcome) -> list[Claim]:
    converged, decided = outcome.converged[:, start], outcome.norm_decided[:, start]
    minimal = outcome.minimal_norm[:, start]

    def norm_of(name: Connectivity) -> np.ndarray:
        return minimal[known.of_class(name) & converged & decided]

    other = known.of_class("other") & converged
    return [
        share_claim(
            f"{EXPERIMENT.name}/disconnected-rank",
            "On other disconnected data the rank is hardly ever minimal.",
            f"{_PAPER}, Fig. 1",
            (outcome.rank[:, start] == known.minimum_rank)[other],
            Target("<=", 0.1),
        ),
        share_claim(
            f"{EXPERIMENT.name}/bipartite-norm",
            "On complete bipartite data the solution has the minimum nuclear norm (to 1e-6).",
            f"{_PAPER}, Theorem on complete bipartite data",
            norm_of("complete bipartite"),
            Target(">=", 0.95),
        ),
        share_claim(
            f"{EXPERIMENT.name}/connected-norm",
            "On connected data the nuclear norm is minimal in a minority of runs.",
            f"{_PAPER}, Fig. 1",
            norm_of("connected"),
            Target("<=", 0.3),
        ),
        share_claim(
            f"{EXPERIMENT.name}/disconnected-norm",
            "On other disconnected data the nuclear norm is minimal in a part of the runs only.",
            f"{_PAPER}, Fig. 1",
            norm_of("other"),
            Target("<=", 0.7),
        ),
    ]


def _norm_claims(config: Config, known: Reference, outcome: Outcome) -> list[Claim]:
    """What holds of nuclear norms up to rounding, for every run from 1e-8 or less; and the rate."""
    stds = np.array(config.init_stds)
    small = outcome.converged & (stds <= 1e-8)
    apart = small & known.disconnected[:, None]
    added = np.abs(outcome.component_excess[apart])
    ranks = (outcome.rank == outcome.component_rank) | ~apart
    complete = known.of_class("complete bipartite")
    excess = outcome.nuclear_excess[small & complete[:, None]]

    measured = (stds >= _RATE[0]) & (stds <= _RATE[1])
    chosen = complete & outcome.converged[:, measured].all(axis=1)
    slopes = np.zeros(0)
    if measured.sum() >= 2 and chosen.any():
        rates = np.maximum(outcome.nuclear_excess[chosen][:, measured], 1e-16)
        slopes = np.polyfit(np.log(stds[measured]), np.log(rates).T, 1)[0]
    return [
        exact_claim(
            f"{EXPERIMENT.name}/component-norm",
            "On disconnected data the nuclear norm adds up over the components: largest"
            " relative error of the converged runs from 1e-8 or less.",
            "derived: balanced factors have ||W||_* = |A|_F², and so has each component",
            _largest(added),
            added.size,
            Target("<=", 1e-10),
        ),
        share_claim(
            f"{EXPERIMENT.name}/component-rank",
            "On disconnected data the rank adds up over the components, in all converged runs of an"
            " instance from 1e-8 or less.",
            "derived: while the inner width suffices, their latent directions are independent",
            ranks[known.disconnected & small.any(axis=1)].all(axis=1),
            Target(">=", 0.8),
        ),
        exact_claim(
            f"{EXPERIMENT.name}/bipartite-excess",
            "On complete bipartite data the nuclear norm is minimal up to rounding:"
            " largest relative excess of the converged runs from 1e-8 or less.",
            f"{_PAPER}, Theorem on complete bipartite data",
            _largest(excess),
            excess.size,
            Target("<=", 1e-12),
        ),
        bootstrap_claim(
            f"{EXPERIMENT.name}/bipartite-rate",
            "The nuclear excess on complete bipartite data falls as std².",
            "derived: the imbalance of the factors at the start is of that order",
            slopes,
            Target("in", (1.95, 2.05)),
        ),
    ]


def _largest(values: np.ndarray) -> float:
    return float(values.max()) if values.size else math.nan
