"""The choice of every method's setting from its grid: a table, and whether it is the default."""

from typing import Any

from experiments.claims import Claim, Target, exact_claim
from experiments.control.interventions.config import ADAM, EXPERIMENT, GRIDS, Config
from experiments.control.interventions.ledger import Found
from experiments.control.interventions.selection import Rank, loss_ratio, rank


def claims(config: Config, found: Found) -> list[Claim]:
    """That the settings are those which the rule chooses."""
    ranks = _ranks(found)
    other = [
        name for name in ranks if GRIDS[name][ranks[name].best] != getattr(config.settings, name)
    ]
    return [
        exact_claim(
            f"{EXPERIMENT.name}/tuned",
            "Number of methods whose setting is not the one that the rule chooses from the grid"
            + (f" ({', '.join(other)})" if other else ""),
            "measured",
            len(other),
            len(ranks),
            Target("<=", 0),
        )
    ]


def rows(found: Found) -> list[dict[str, Any]]:
    """Every setting of every method, and which is chosen."""
    adam = found[ADAM]
    return [
        {
            "method": name,
            "setting": setting,
            "chosen": "yes" if place == ranked.best else "",
            "tasks that miss a goal": int(ranked.missed[place]),
            "loss / Adam's, clipped mean": float(ranked.loss[place]),
            **{
                f"{task}: {column}": float(values[place])
                for task in found[name]
                for column, values in (
                    ("spikes", found[name][task].spikes.mean(axis=0)),
                    ("loss", loss_ratio(found[name][task], adam[task])),
                )
            },
        }
        for name, ranked in _ranks(found).items()
        for place, setting in enumerate(GRIDS[name])
    ]


def _ranks(found: Found) -> dict[str, Rank]:
    return {name: rank(found[name], found[ADAM]) for name in found if name in GRIDS}
