"""Claims that ``spikes-sine`` and ``spikes-highdim`` have in common."""

from collections.abc import Mapping

import numpy as np

from experiments.claims import Claim, Target, bootstrap
from experiments.spikes import ledger
from experiments.spikes.ledger import KEYS, SHORT
from experiments.spikes.scores import Foresight
from phenodl.spikes import alarms
from phenodl.spikes.alarms import Counts


def claims(
    name: str, found: Mapping[str, Foresight], *, recall: float, precision: float
) -> list[Claim]:
    """A, along the gradient, announces all spikes; C, along the update, is nearly always right.

    Args:
        name: of the experiment, or its part, that the claims are of.
        found: the scores of ``curvature_a`` and ``curvature_c``.
        recall: the least that is claimed of A.
        precision: likewise.
    """
    along_gradient, along_update = found["curvature_a"], found["curvature_c"]
    return [
        ledger.recall(name, "curvature_a", along_gradient, Target(">=", recall)),
        recall_above_chance(name, "curvature_a", along_gradient),
        ledger.precision_of(name, "curvature_a", along_gradient, Target(">=", precision)),
        ledger.above_chance(name, "curvature_a", along_gradient),
        ledger.lead(name, "curvature_a", along_gradient, Target(">=", 4)),
        ledger.precision_of(name, "curvature_c", along_update, Target(">=", 0.95)),
        ledger.above_chance(name, "curvature_c", along_update),
    ]


def recall_above_chance(name: str, signal: str, found: Foresight) -> Claim:
    """Recall against that of the same alarms at other times."""

    def gain(seeds: np.ndarray) -> float:
        counts, chance = (
            Counts(*(column[seeds] for column in each)) for each in (found.counts, found.chance)
        )
        return float(alarms.recall(counts) - alarms.recall(chance))

    seeds = np.arange(len(found.leads))
    return Claim(
        f"{name}/{KEYS[signal]}-recall-chance",
        f"Alarms of {SHORT[signal]} reach more spikes than the same alarms at random times: "
        "difference of recall",
        "circular shifts of the alarms",
        *bootstrap(seeds, gain),
        len(seeds),
        Target(">", 0),
    )
