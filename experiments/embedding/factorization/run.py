"""Searches narrow critical points, trains wide factorizations, and holds the two together."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.completion import gradient_flow
from experiments.completion.hierarchy import config as hierarchy
from experiments.completion.hierarchy.instances import instances
from experiments.completion.hierarchy.outcome import read, sequence_is_exact
from experiments.embedding.factorization import departures, figures, ledger, narrow, wide
from experiments.embedding.factorization.config import Config
from experiments.embedding.factorization.narrow import WIDTHS, Narrow
from experiments.embedding.factorization.passage import Passage, passage
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import plateaus
from phenodl.data.matrices import Instances
from phenodl.models import factorization


def train(config: Config, recorder: Recorder) -> None:
    """The narrow critical points; the flow from displaced embeddings, and from a tiny start."""
    family = _family(config)
    balanced = {k: narrow.balanced(narrow.find(config, family, k, recorder)) for k in WIDTHS}
    departures.train(config, family, balanced, recorder)
    runs = sweep.product(
        key=jax.random.key(config.seed),
        fold_in=("instance",),
        instance={"target": family.target, "mask": family.mask},
        init_std=hierarchy.Config().init_std,
    )
    recorded = {"probes": plateaus.history(config.every), "stop": None}
    flow = {**gradient_flow.training(polish_every=None), **recorded}
    steps = config.history_steps
    recorder.train("history", factorization.problem(), runs=runs, steps=steps, chunk=steps, **flow)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The embeddings of the narrow critical points, the ways out, and the plateaus."""
    family = _family(config)
    points = {k: narrow.found(family, k, results) for k in WIDTHS}
    balanced = {k: narrow.balanced(points[k]) for k in WIDTHS}
    embedded = wide.embedded(points, family, config.seed)
    left = departures.read(config, results[departures.NAME])
    starts = {k: departures.starts(balanced[k], config.alphas) for k in WIDTHS}
    history = read(results["history"], family)
    passed = passage(history, points, balanced, family)
    exact = sequence_is_exact(passed.plateaus, len(family.rank))
    return Analysis(
        claims=[
            *ledger.embedding_claims(embedded),
            *ledger.orbit_claims(embedded, starts, balanced, config),
            *ledger.departure_claims(left, points, embedded, config),
            *ledger.plateau_claims(passed),
        ],
        figures={
            "hierarchy": figures.hierarchy(history, passed, points, int(exact.argmax()), family),
            "splits": figures.splits(left, starts[1], balanced[1], points[1], config),
            "spectra": figures.spectra(embedded),
        },
        tables={"widths": [_row(k, points[k], passed) for k in WIDTHS]},
    )


def _family(config: Config) -> Instances:
    """The instances of ``completion-hierarchy``, with a seed of their own."""
    return instances(hierarchy.Config(seed=config.seed, draws=config.draws))


def _row(width: int, points: Narrow, passed: Passage) -> dict[str, Any]:
    of_rank = passed.plateaus.rank == width
    distance, gap = passed.narrow_distance[of_rank], passed.gap[of_rank]
    low, median, high = np.quantile(distance, [0.1, 0.5, 0.9]) if distance.size else [np.nan] * 3
    return {
        "narrow width": width,
        "narrow critical points": int(points.accepted.sum()),
        "of searches": points.accepted.size,
        "plateaus of that rank": distance.size,
        "distance without null units, 10 %": float(low),
        "distance, median": float(median),
        "distance, 90 %": float(high),
        "norm of the null units, median": float(np.median(passed.left_out[of_rank])),
        "relative gap in loss, median": float(np.median(gap)),
    }
