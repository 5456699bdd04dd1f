"""The claims and tables of ``control-predictors``."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.claims import Claim, Estimate, Target, Verdict, bootstrap
from experiments.control.names import DIGITS, FREQUENT, LANGUAGE, SEQUENCE, TRANSFORMERS
from experiments.control.predictors.catalogue import predictors
from experiments.control.predictors.config import EXPERIMENT, Config
from experiments.control.predictors.measure import Scored
from experiments.control.predictors.names import LABELS, REFERENCE
from experiments.spikes import ledger
from experiments.spikes.measurements import SPIKE
from phenodl.spikes.predict import Predictor

DERIVED = "derived, see phenodl.spikes.predict"
SHIFTS = "circular shifts of the curve"

FEWEST = 5
"""Seeds from which on the percentiles of a bootstrap are taken for an interval."""

GAP = {DIGITS: 0.05} | dict.fromkeys(TRANSFORMERS, 0.05)
"""By how much the free predictor's area may fall short of A's; by nothing elsewhere."""

MOST, MANY = Target(">", 0.75), Target(">", 0.25)
"""Of shares of spikes: sixteen, as of *deep*, and five, as of a transformer, decide no more."""

KNOWN: Mapping[str, Verdict] = dict.fromkeys(
    (
        f"{FREQUENT}-free-auc",
        f"{SEQUENCE}-a-recall",
        f"{SEQUENCE}-free-lead",
        f"{LANGUAGE}-a-recall",
        f"{LANGUAGE}-free-auc",
        f"{LANGUAGE}-free-lead",
    ),
    "undetermined",
)
"""The claims, by the ends of their ids, that these seeds do not decide. On sequences A foretells
by its height and seldom reaches 2/η; on the language the noise of the batches lifts the stretch
above its threshold, and the gradient norm alone is the better free signal."""


def claims(free: str, task: str, scored: Scored) -> list[Claim]:
    """The claims about one training.

    Args:
        free: the name of the predictor that is held against A.
        task: the name of the training.
        scored: that training.
    """
    exact, rival = scored.found[REFERENCE], scored.found[free]
    name = LABELS[free]
    foreseen = [
        (f"{task}-a-recall", f"{task}: A passes 2/η", SPIKE, exact),
        (f"{task}-free-recall", f"{task}: {name} passes its threshold", DERIVED, rival),
    ]
    return [
        *(
            _claim(
                end,
                f"{subject} before the spike: share of spikes",
                source,
                ledger.pooled_share(found.counts.foreseen, found.counts.spikes),
                int(found.counts.spikes.sum()),
                MANY if task in TRANSFORMERS else MOST,
            )
            for end, subject, source, found in foreseen
        ),
        _over_seeds(
            f"{task}-a-auc",
            f"{task}: A is higher in the 30 steps before a spike than elsewhere: AUC above that of "
            "the same curve at random times, mean over seeds",
            SHIFTS,
            exact.auc - exact.chance_auc,
            np.mean,
            Target(">", 0),
        ),
        _over_seeds(
            f"{task}-free-auc",
            f"{task}: {name}, without second derivatives, tells the 30 steps before a spike from "
            "others as A does: its AUC less A's, mean over seeds",
            DERIVED,
            rival.auc - exact.auc,
            np.mean,
            Target(">=", -GAP.get(task, 0.0)),
        ),
        _over_seeds(
            f"{task}-free-lead",
            f"{task}: {name} passes its threshold as early as A: its median lead less A's, in "
            "steps",
            DERIVED,
            np.stack([rival.leads, exact.leads], axis=1),
            lead_gap,
            Target(">=", -1),
        ),
    ]


def lead_gap(leads: Float[np.ndarray, "seed 2 spike"]) -> float:
    """The median lead of the first of two predictors less that of the second."""
    return ledger.finite_median(leads[:, 0]) - ledger.finite_median(leads[:, 1])


def over_seeds(values: np.ndarray, statistic: Callable[[np.ndarray], Any]) -> tuple[Estimate, int]:
    """A statistic over the seeds of which something is known, and their number.

    Args:
        values: one row per seed; a seed without a spike has nothing but NaN.
        statistic: of the rows.

    Returns:
        The estimate, without an interval where the seeds are fewer than ``FEWEST``.
    """
    known = values[np.isfinite(values).reshape(len(values), -1).any(axis=1)]
    if len(known) >= FEWEST:
        return bootstrap(known, statistic), len(known)
    measured = float(statistic(known)) if len(known) else math.nan
    return Estimate(measured, (math.nan, math.nan)), len(known)


def rows(scored: Scored) -> list[dict[str, Any]]:
    """The table of one training, a row per predictor."""
    return [
        row
        | {
            "signal": LABELS[name],
            "AUC by chance": over_seeds(found.chance_auc, np.mean)[0].measured,
            "lead by chance": ledger.finite_median(scored.leads_by_chance[name]),
            "spikes": int(found.counts.spikes.sum()),
        }
        for (name, found), row in zip(scored.found.items(), ledger.rows(scored.found), strict=True)
    ]


def costs(config: Config) -> list[dict[str, Any]]:
    """What the predictors need per step beside the gradient that training uses."""
    known: dict[str, Predictor] = {}
    for task in config.tasks:
        known |= predictors(config.predictors, task)
    return [
        {
            "predictor": LABELS[name],
            "second derivatives": known[name].second_derivatives,
            "further gradients": known[name].gradients,
            "copies of the parameters": known[name].copies,
            "threshold": known[name].threshold,
        }
        for name in config.predictors
        if name in known
    ]


def _over_seeds(
    end: str,
    statement: str,
    source: str,
    values: np.ndarray,
    statistic: Callable[[np.ndarray], Any],
    target: Target,
) -> Claim:
    return _claim(end, statement, source, *over_seeds(values, statistic), target)


def _claim(
    end: str, statement: str, source: str, estimate: Estimate, n: int, target: Target
) -> Claim:
    expected = KNOWN.get(end, "holds")
    return Claim(f"{EXPERIMENT.name}/{end}", statement, source, *estimate, n, target, expected)
