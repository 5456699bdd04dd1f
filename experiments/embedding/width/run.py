"""Searches narrow critical points, embeds them, measures, states the claims."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from experiments.embedding import bases
from experiments.embedding.width import escapes, figures, ledger, searches
from experiments.embedding.width.config import Config
from experiments.embedding.width.embeddings import CONTROL, KINDS
from experiments.embedding.width.families import families, searched
from experiments.embedding.width.outcome import Survey, curves, raised_by_equal_splits, survey
from experiments.experiment import Analysis
from experiments.recorder import Recorder


def train(config: Config, recorder: Recorder) -> None:
    """Searches critical points of networks with one hidden layer; lets flows leave saddles."""
    one, two, _ = [
        searches.require_found(base, bases.find(base, config.search, recorder))
        for base in searched(config)
    ]
    escapes.train_escapes(config, recorder, {1: one, 2: two})


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Embeds what was found and what is planted; output, gradient, inertia, splits along alpha."""
    narrow_points = families(config, results)
    narrow, rows = survey(narrow_points, config.draws, config.seed)
    along = curves(narrow_points, narrow, config.alphas)
    two_units = [family.name for family in narrow_points].index("staircases")
    minimum = narrow.minimum[narrow.family == two_units]
    equal = raised_by_equal_splits(narrow_points[two_units], minimum)
    found = {units: searches.found(config, results, units) for units in (1, 2)}
    embedded_saddles = escapes.embedded_saddles(config, found)
    rates = escapes.rates(config, results, embedded_saddles)
    control = rows.take(rows.kind == CONTROL)
    embedded = rows.take(rows.kind != CONTROL)
    return Analysis(
        claims=[
            *ledger.preservation(embedded),
            *ledger.degeneracy(embedded, narrow),
            ledger.control(control, narrow),
            *ledger.saddles(embedded, along, equal),
            *searches.claims(config, results),
            *escapes.escape_claims(embedded_saddles, rates),
        ],
        figures={
            "deviations": figures.deviations(rows),
            "inertia": figures.inertia(embedded),
            "alpha": figures.alpha(along),
            "escapes": escapes.figure(results, embedded_saddles, rates),
        },
        tables={
            "searches": searches.table(config, results),
            "escapes": escapes.table(embedded_saddles, rates),
            "embeddings": [
                _row(kind, depth, rows.take((rows.kind == kind) & (rows.depth == depth)))
                for kind in (*KINDS, CONTROL)
                for depth in np.unique(rows.depth)
            ],
            "points": [
                {
                    "points": family.name,
                    "number": len(family),
                    "minima": int(narrow.minimum[narrow.family == number].sum()),
                    "non-degenerate": int(narrow.regular[narrow.family == number].sum()),
                    "largest gradient": float(narrow.grad_norm[narrow.family == number].max()),
                }
                for number, family in enumerate(narrow_points)
            ],
        },
    )


def _row(kind: str, depth: int, rows: Survey) -> dict[str, Any]:
    return {
        "kind": kind,
        "hidden layers": int(depth),
        "embeddings": len(rows.kind),
        "output, largest change": float(rows.output.max()),
        "gradient, smallest": float(rows.grad_norm.min()),
        "gradient, largest": float(rows.grad_norm.max()),
        "inertia determined": float(rows.determined.mean()),
    }
