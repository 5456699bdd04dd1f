"""How often a start leads to a critical point: the narrowest staircase networks, and the claims."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim, share_claim
from experiments.embedding import bases
from experiments.embedding.bases import Base
from experiments.embedding.width.config import EXPERIMENT, Config
from experiments.errors import UserError
from phenodl.embedding.critical import TOLERANCE, CriticalPoints

_SOURCE = "premise of EP (arXiv 2105.14573), whose critical points are assumed to be at hand"


@functools.cache
def staircases(config: Config, units: int) -> Base:
    """Networks with so many units, each on one of the experiment's staircases.

    Equal arguments give the same object, so that what is compiled for it is shared.
    """
    name = {1: "staircases-one", 2: "staircases"}[units]
    return bases.staircases(name, (units,), seed=config.search.seed, count=config.staircases)


def found(config: Config, results: Mapping[str, xr.Dataset], units: int) -> CriticalPoints:
    """What the search has come to, leading axes staircase, seed."""
    return bases.found(staircases(config, units), config.search, results)


def require_found(base: Base, points: CriticalPoints) -> CriticalPoints:
    """The points, of which there must be one to embed.

    Raises:
        UserError: no start came to a bounded critical point.
    """
    if not np.any(points.accepted):
        raise UserError(
            f"more starts or steps are needed (--search.seeds, --search.steps): none of"
            f" {points.accepted.size} starts of {base.name} came to a bounded critical point"
        )
    return points


def table(config: Config, results: Mapping[str, xr.Dataset]) -> list[dict[str, Any]]:
    """How many starts were accepted, over the staircases; one row per number of units."""
    rows = []
    for units in (1, 2):
        points = found(config, results, units)
        shares = points.accepted.mean(axis=1)
        rows.append(
            {
                "units": units,
                "staircases": len(shares),
                "starts of each": points.accepted.shape[1],
                "accepted, smallest share": float(shares.min()),
                "accepted, median share": float(np.median(shares)),
                "accepted, largest share": float(shares.max()),
                "staircases with all accepted": int((shares == 1).sum()),
            }
        )
    return rows


def claims(config: Config, results: Mapping[str, xr.Dataset]) -> list[Claim]:
    """That the search finds bounded critical points, and how critical they are."""
    name = EXPERIMENT.name
    one, two = (found(config, results, units) for units in (1, 2))
    norms = [np.asarray(points.grad_norm)[points.accepted] for points in (one, two)]
    worst = float(np.max(np.concatenate(norms), initial=0.0))
    return [
        share_claim(
            f"{name}/search-one",
            "On a random staircase Newton's method takes every start of a network with one unit to"
            " a bounded critical point.",
            _SOURCE,
            one.accepted.all(axis=1),
            Target(">=", 0.5),
        ),
        bootstrap_claim(
            f"{name}/search-two",
            "The median, over random staircases, of the share of starts of a network with two units"
            " that come to a bounded critical point is at least a third.",
            _SOURCE,
            two.accepted.mean(axis=1),
            Target(">=", 1 / 3),
        ),
        exact_claim(
            f"{name}/search-gradient",
            f"At all of them the Euclidean norm of the gradient is below {TOLERANCE:g}.",
            _SOURCE,
            worst,
            int(np.sum(one.accepted) + np.sum(two.accepted)),
            Target("<", TOLERANCE),
        ),
    ]
