"""The claims of ``spikes-explanations``, and the table of the growth."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.spikes.explanations.branches import ARMS
from experiments.spikes.explanations.config import EXPERIMENT
from experiments.spikes.explanations.outcome import Growth, Outcome
from experiments.spikes.ledger import finite_median
from experiments.spikes.measurements import SPIKE

DERIVED = "derived: D grows by β2^(-1/2) per step where v decays by β2"


def claims(name: str, found: Outcome) -> list[Claim]:
    """The claims about one network; ``name`` is that of the network."""
    return [*growth_claims(name, found.growth), *arm_claims(name, found)]


def growth_claims(name: str, growth: Growth) -> list[Claim]:
    """What the growth from trough to crossing owes to D, and how sharp the landscape is."""
    # Only later spikes start from a settled network; a deep spike has none before it.
    parts = {"first": growth.first, "later": ~growth.first}
    targets = {"first": Target(">", 0.5), "later": Target(">", 0.75)}
    found = []
    for key, chosen in parts.items():
        if not chosen.any():
            continue
        per_seed = np.array(
            [
                (growth.diagonal[own].sum(), growth.total[own].sum())
                for own in (chosen & (growth.seed == seed) for seed in np.unique(growth.seed))
                if own.any()
            ]
        )
        found.append(
            bootstrap_claim(
                f"{EXPERIMENT.name}/{name}-{key}-growth",
                f"{name}, {key} spikes: share of the growth of ln λ_max(Ĥ) from its trough to 2/η "
                "that is owed to the preconditioner, not to the Hessian",
                f"{SPIKE}, the two explanations",
                per_seed,
                targets[key],
                share_of_growth,
            )
        )
    seeds = np.unique(growth.seed)
    flat = [(growth.sharpness[growth.seed == seed] < 0.5).all() for seed in seeds]
    return [
        *found,
        share_claim(
            f"{EXPERIMENT.name}/{name}-sharpness",
            f"{name}: at every trigger λ_max(H) is less than half of 2/η: share of seeds",
            f"{SPIKE}, against lower loss as sharper",
            flat,
            Target(">=", 0.75),
        ),
    ]


def share_of_growth(sums: np.ndarray) -> float:
    """Of the growth of all spikes together; columns: owed to D, total."""
    owed, total = sums.sum(axis=0)
    return owed / total


def arm_claims(name: str, found: Outcome) -> list[Claim]:
    """What becomes of the runs whose preconditioner follows another rule."""
    branches = found.branches
    control, frozen, decaying = range(len(ARMS))
    with np.errstate(invalid="ignore", divide="ignore"):
        delay = branches.crossing[control] / branches.crossing[decaying]
        ahead = branches.crossing[decaying] / branches.predicted
    return [
        share_claim(
            f"{EXPERIMENT.name}/{name}-frozen",
            f"{name}: with D kept as at the trough no spike comes in the time in which the "
            "control's comes and goes: share of seeds",
            f"{SPIKE}, the preconditioner makes the spike",
            ~branches.spiked[frozen],
            Target(">", 0.75),
        ),
        share_claim(
            f"{EXPERIMENT.name}/{name}-decaying",
            f"{name}: with v <- β2 v from the trough on, whatever the gradient, the spike comes in "
            "the same time: share of seeds",
            f"{SPIKE}, decay of the preconditioner",
            branches.spiked[decaying],
            Target(">", 0.75),
        ),
        bootstrap_claim(
            f"{EXPERIMENT.name}/{name}-delay",
            f"{name}: the gradient hardly delays the decay: steps from the trough to 2/η over the "
            "same with v decaying alone, median over seeds",
            f"{SPIKE}, decay of the preconditioner",
            delay,
            Target("in", (0.9, 1.2)),
            finite_median,
        ),
        bootstrap_claim(
            f"{EXPERIMENT.name}/{name}-prediction",
            f"{name}: with v decaying alone the steps from the trough to 2/η are those of an "
            "unchanging Hessian: ratio of the two, median over seeds",
            DERIVED,
            ahead,
            Target("in", (0.7, 1.1)),
            finite_median,
        ),
    ]


def rows(outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """The growth of every network, first and later spikes apart: medians over spikes."""
    table = []
    for name, found in outcomes.items():
        growth = found.growth
        for key, chosen in (("first", growth.first), ("later", ~growth.first)):
            some = Growth(*(column[chosen] for column in growth))
            table.append(
                {
                    "network": name,
                    "spikes": f"{key} of a run",
                    "number": int(chosen.sum()),
                    "growth": finite_median(some.total),
                    "owed to D": finite_median(some.diagonal / some.total),
                    "D alone": finite_median(some.diagonal_alone / some.total),
                    "H alone": finite_median(some.hessian_alone / some.total),
                    "λ_max(H) / (2/η) at trigger": finite_median(some.sharpness),
                }
            )
    return table
