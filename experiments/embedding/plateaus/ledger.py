"""What is claimed about the rests, and the tables behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim, share_claim
from experiments.embedding.plateaus import narrow, rests
from experiments.embedding.plateaus.config import EXPERIMENT, Config
from experiments.embedding.plateaus.rests import MISSING, History, Rest
from phenodl.embedding.catalogue import Entry

GAP_ONE = 1e-4
"""Distance in loss from a critical point of one unit at which a run counts as resting at it."""
GAP_TWO = 5e-4
"""The same for a critical point of two units."""

_PAPER = "EP (arXiv 2105.14573), Fig. 1"

Found = Sequence[Sequence[Rest]]


class Reductions(NamedTuple):
    """The rests as one unit, polished.

    Attributes:
        run: that rests there.
        grad_norm: of the polished network.
        loss_gap: from the loss of the critical point that the rest was matched with.
    """

    run: Int[np.ndarray, " rests"]
    grad_norm: Float[np.ndarray, " rests"]
    loss_gap: Float[np.ndarray, " rests"]


def reductions(config: Config, found: Found) -> Reductions:
    """Polishes the one unit of every run that rests as one."""
    first = {run: rests.first(each, 1) for run, each in enumerate(found)}
    resting = {run: rest for run, rest in first.items() if rest}
    run = np.array(list(resting), int)
    if not resting:
        return Reductions(run, np.zeros(0), np.zeros(0))
    base = narrow.staircases(config, 1)
    reduced = [rest.place.reduction for rest in resting.values()]
    points = narrow.polish(base, reduced, base.targets[run * config.targets // len(found)])
    matched = np.array([rest.place.loss - rest.match.loss_gap for rest in resting.values()])
    return Reductions(run, np.asarray(points.grad_norm), np.abs(points.loss - matched))


def best_example(found: Found) -> int:
    """The run whose larger gap, from one unit and from two, is the smallest; 0 if none has both."""
    return int(_worse_gap(found).argmin())


def claims(
    config: Config,
    histories: Mapping[str, History],
    found: Mapping[str, Found],
    reduced: Reductions,
) -> list[Claim]:
    """All claims of the experiment."""
    name = EXPERIMENT.name
    one = _by_target(config, rests.gaps(found["condensing"], 1))
    control = _by_target(config, rests.gaps(found["gaussian"], 1))
    resting = one < MISSING
    return [
        bootstrap_claim(
            f"{name}/one-unit-gap",
            "From a condensing start the loss at the first rest as one unit (to which the network"
            " there reduces, its outputs changing by at most 0.01) is within 1e-5 of a critical"
            " loss of one unit (absolute, targets of variance 1; median over targets of the worst"
            " key).",
            _PAPER,
            one.max(1),
            Target("<=", 1e-5),
        ),
        share_claim(
            f"{name}/one-unit-share",
            f"From a condensing start every key of a target rests as one unit, within {GAP_ONE:g}"
            " of a critical loss of one unit.",
            _PAPER,
            (one <= GAP_ONE).all(1),
            Target(">=", 0.75),
        ),
        share_claim(
            f"{name}/reduction",
            "Networks that rest as one unit, reduced to it and polished to a gradient below 1e-12,"
            " have the loss of that critical point to 1e-8, for every key of a target that rests"
            " so.",
            _PAPER,
            _reduced_to_catalogue(config, reduced)[resting.any(1)],
            Target(">=", 0.75),
        ),
        bootstrap_claim(
            f"{name}/condensed",
            "Where a run from a condensing start rests as one unit, its units point in one"
            " direction: the mean |cos| of two falls short of 1 by at most 1e-6 (median over"
            " targets of the worst key).",
            _PAPER,
            _by_target(config, rests.spreads(histories["condensing"], found["condensing"])).max(1),
            Target("<=", 1e-6),
        ),
        share_claim(
            f"{name}/two-units",
            "From a condensing start with one unit ahead a run rests as one unit and then as two,"
            f" both within {GAP_TWO:g} of the losses of critical points of one and of two units.",
            _PAPER,
            _worse_gap(found["leader"]) <= GAP_TWO,
            Target(">=", 0.05),
        ),
        exact_claim(
            f"{name}/two-units-best",
            "On the target where they are nearest, both rests of such a run are within 1e-4.",
            _PAPER,
            float(_worse_gap(found["leader"]).min()),
            config.targets,
            Target("<=", 1e-4),
        ),
        share_claim(
            f"{name}/gaussian",
            f"From a plain Gaussian start (std {config.gaussian_std:g}) a run rests as one"
            f" unit, within {GAP_ONE:g} of a critical loss of one unit.",
            "control",
            (control <= GAP_ONE).all(1),
            Target("<=", 0.5),
        ),
    ]


def tables(
    config: Config,
    entries: Sequence[Sequence[Entry]],
    found: Mapping[str, Found],
    reduced: Reductions,
) -> dict[str, list[dict[str, Any]]]:
    """Per target the critical losses that are known and the gaps of the runs from them."""
    one = _by_target(config, rests.gaps(found["condensing"], 1))
    ahead = {units: rests.gaps(found["leader"], units) for units in narrow.UNITS}
    control = rests.gaps(found["gaussian"], 1)
    polished = _by_target(config, _scatter(reduced.run, reduced.loss_gap, one.size))
    return {
        "targets": [
            {
                "target": config.seed + row,
                "losses of one unit": _losses(known, 1),
                "losses of two units": _losses(known, 2),
                "gap, one unit, worst key": one[row].max(),
                "gap, polished, worst key": polished[row].max(),
                "unit ahead: gap, one unit": ahead[1][row],
                "unit ahead: gap, two units": ahead[2][row],
                "Gaussian: gap, one unit": control[row],
            }
            for row, known in enumerate(entries)
        ]
    }


def _worse_gap(found: Found) -> Float[np.ndarray, " runs"]:
    """The larger of the gaps from one unit and from two; ``MISSING`` unless in this order."""
    worse = np.maximum(rests.gaps(found, 1), rests.gaps(found, 2))
    pairs = [(rests.first(each, 1), rests.first(each, 2)) for each in found]
    ordered = [bool(one and two and one.place.index < two.place.index) for one, two in pairs]
    return np.where(ordered, worse, MISSING)


def _reduced_to_catalogue(config: Config, reduced: Reductions) -> np.ndarray:
    """Per target, whether no reduction of its runs fails to polish to the critical loss."""
    failed = (reduced.grad_norm >= 1e-12) | (reduced.loss_gap > 1e-8)
    by_run = _scatter(reduced.run, failed, config.targets * config.keys, missing=False)
    return ~np.any(_by_target(config, by_run), axis=1)


def _by_target(config: Config, values: np.ndarray) -> np.ndarray:
    return values.reshape(config.targets, -1)


def _scatter(run: np.ndarray, values: np.ndarray, count: int, missing: Any = np.nan) -> np.ndarray:
    spread = np.full(count, missing)
    spread[run] = values
    return spread


def _losses(known: Sequence[Entry], units: int) -> str:
    return ", ".join(f"{entry.loss:.6f}" for entry in known if entry.hidden == (units,))
