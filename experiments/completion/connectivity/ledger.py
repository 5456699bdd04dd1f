"""The claims about connectivity, from what was measured."""

from typing import Any

import numpy as np

from experiments.claims import Claim, Target, bootstrap, exact, share
from experiments.completion.connectivity.config import EXPERIMENT, Config
from experiments.completion.connectivity.outcome import Connected, Outcome, Reference
from phenodl.completion import Connectivity

_PAPER = "MF (arXiv 2405.13721)"
_MOST = {1e-8: 0.7, 1e-16: 0.8, 1e-30: 0.87, 1e-120: 0.94}
"""Share of connected runs that reach the minimum rank from a start, at least."""
_RATE = (1e-4, 1e-2)
"""Standard deviations between which the excess is a power law, neither saturated nor rounding."""


def claims(config: Config, known: Reference, outcome: Outcome, connected: Connected) -> list[Claim]:
    """All claims of the experiment."""
    return [
        *_connected_claims(config, connected),
        *_class_claims(config.small_start, known, outcome),
        *_norm_claims(config, known, outcome),
    ]


def _connected_claims(config: Config, connected: Connected) -> list[Claim]:
    smallest = config.smallest_start
    converged, minimal = connected.converged, connected.minimal_rank
    missed = converged[:, smallest] & ~minimal[:, smallest]
    growth = np.log10(connected.largest[:, smallest] / connected.largest[:, config.small_start])
    std = f"{config.init_stds[smallest]:g}"
    return [
        _share(
            "converged",
            "On connected data the flow fits the observed entries (loss per entry ≤ 1e-12) within"
            " the given steps, from whichever start this happens least often.",
            "premise of the claims below, which rest on converged runs",
            converged[:, converged.mean(axis=0).argmin()],
            Target(">=", 0.95),
        ),
        *(
            _share(
                f"connected-rank-{std:g}",
                f"From a start of {std:g} connected data lead to the minimum rank in most runs.",
                f"{_PAPER}, Fig. 1",
                minimal[converged[:, start], start],
                Target(">=", _MOST[std]),
            )
            for start, std in enumerate(config.init_stds)
            if std in _MOST
        ),
        _share(
            "connected-rank-always",
            f"From a start of {std} connected data lead to the minimum rank, always.",
            f"{_PAPER}, Theorem on connected data, read without its condition on the dynamics",
            minimal[converged[:, smallest], smallest],
            Target(">=", 1.0),
            expected="fails",
        ),
        _share(
            "connected-rank-condition",
            f"From a start of {std} the rank is minimal wherever the theorem's condition is met:"
            " the flow on each Ω_k ends at the best fit of rank k.",
            f"{_PAPER}, Theorem on connected data",
            minimal[converged[:, smallest] & connected.condition, smallest],
            Target(">=", 0.98),
        ),
        _share(
            "condition-common",
            "On connected data the condition on the dynamics is met as a rule, not always.",
            "measured on the flow that leaves each saddle by its most unstable direction",
            connected.condition,
            Target("in", (0.6, 0.95)),
        ),
        Claim(
            id=f"{EXPERIMENT.name}/missed-rank-grows",
            statement="Runs that miss the minimum rank drift away as the start shrinks: decades by"
            " which their largest singular value grows.",
            source="measured: along a valley of Ω_k, until a higher rank ends the drift",
            n=int(missed.sum()),
            target=Target(">", 0),
            **bootstrap(growth[missed])._asdict(),
        ),
    ]


def _class_claims(start: int, known: Reference, outcome: Outcome) -> list[Claim]:
    converged, decided = outcome.converged[:, start], outcome.norm_decided[:, start]
    minimal = outcome.minimal_norm[:, start]

    def norm_of(name: Connectivity) -> np.ndarray:
        return minimal[known.of_class(name) & converged & decided]

    other = known.of_class("other") & converged
    return [
        _share(
            "disconnected-rank",
            "On other disconnected data the rank is hardly ever minimal.",
            f"{_PAPER}, Fig. 1",
            (outcome.rank[:, start] == known.minimum_rank)[other],
            Target("<=", 0.1),
        ),
        _share(
            "bipartite-norm",
            "On complete bipartite data the solution has the minimum nuclear norm (to 1e-6).",
            f"{_PAPER}, Theorem on complete bipartite data",
            norm_of("complete bipartite"),
            Target(">=", 0.95),
        ),
        _share(
            "connected-norm",
            "On connected data the nuclear norm is minimal in a minority of runs.",
            f"{_PAPER}, Fig. 1",
            norm_of("connected"),
            Target("<=", 0.3),
        ),
        _share(
            "disconnected-norm",
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
    added = np.abs(outcome.component_excess[small & known.disconnected[:, None]])
    complete = known.of_class("complete bipartite")
    excess = outcome.nuclear_excess[small & complete[:, None]]

    measured = (stds >= _RATE[0]) & (stds <= _RATE[1])
    chosen = complete & outcome.converged[:, measured].all(axis=1)
    slopes = np.zeros(0)
    if measured.sum() >= 2 and chosen.any():
        rates = np.maximum(outcome.nuclear_excess[chosen][:, measured], 1e-16)
        slopes = np.polyfit(np.log(stds[measured]), np.log(rates).T, 1)[0]
    return [
        Claim(
            id=f"{EXPERIMENT.name}/component-norm",
            statement="On disconnected data the nuclear norm adds up over the components: largest"
            " relative error of all runs from 1e-8 or less.",
            source="derived: balanced factors have ||W||_* = |A|_F², and so has each component",
            n=added.size,
            target=Target("<=", 1e-10),
            **_largest(added),
        ),
        Claim(
            id=f"{EXPERIMENT.name}/bipartite-excess",
            statement="On complete bipartite data the nuclear norm is minimal up to rounding:"
            " largest relative excess of all runs from 1e-8 or less.",
            source=f"{_PAPER}, Theorem on complete bipartite data",
            n=excess.size,
            target=Target("<=", 1e-12),
            **_largest(excess),
        ),
        Claim(
            id=f"{EXPERIMENT.name}/bipartite-rate",
            statement="The nuclear excess on complete bipartite data falls as std².",
            source="derived: the imbalance of the factors at the start is of that order",
            n=len(slopes),
            target=Target("in", (1.95, 2.05)),
            **bootstrap(slopes)._asdict(),
        ),
    ]


def _largest(values: np.ndarray) -> dict[str, Any]:
    return exact(values.max() if values.size else np.nan)._asdict()


def _share(
    name: str, statement: str, source: str, met: np.ndarray, target: Target, **rest: Any
) -> Claim:
    """A claim about the share of runs that meet a condition."""
    estimate = share(int(met.sum()), met.size)._asdict()
    name = f"{EXPERIMENT.name}/{name}"
    return Claim(name, statement, source, n=met.size, target=target, **estimate, **rest)
