"""Trains every instance at every width from both starts, and states what the width does."""

from collections.abc import Mapping

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, share_claim
from experiments.completion.generalization import figures
from experiments.completion.generalization.config import EXPERIMENT, Config
from experiments.completion.generalization.model import embedded
from experiments.completion.generalization.outcome import (
    LARGE,
    SMALL,
    Outcome,
    instances,
    measure,
)
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.completion import probes
from phenodl.optim import flow
from phenodl.protocol import Layout

_PUZZLE = "Zhang et al. (arXiv 1611.03530), for matrix factorization"
_MF = "MF (arXiv 2405.13721)"


def train(config: Config, recorder: Recorder) -> None:
    """One run per instance, width and start."""
    family = instances(config)
    runs = sweep.product(
        key=jax.random.key(config.seed),
        fold_in=("instance",),
        instance={"target": family.target, "mask": family.mask},
        inner_width=config.inner_widths,
        init_std=(config.small_std, config.large_std),
    )
    recorder.train(
        "widths",
        embedded(max(config.inner_widths)),
        flow.bold_driver(initial_step=0.01),
        runs,
        steps=config.steps,
        chunk=min(config.steps, 250),
        probes=(probes.solution(),),
        stop=probes.fitted(config.tolerance),
        layout=Layout(width=32),
    )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Test errors by width, sample size and start."""
    outcome = measure(config, results["widths"])
    return Analysis(
        claims=_claims(config, outcome),
        figures={"test-error": figures.test_error(config, outcome)},
        tables={"test-error": _rows(config, outcome)},
    )


def _claims(config: Config, outcome: Outcome) -> list[Claim]:
    order = np.argsort(config.inner_widths)
    narrowest, widest = order[0], order[-1]
    just = config.inner_widths.index(config.rank)
    wider = next(place for place in order if config.inner_widths[place] > config.rank)
    few = np.array(config.sample_sizes) < config.degrees_of_freedom
    width = config.inner_widths[widest]
    fitted = (outcome.training[outcome.well_sampled, :, widest] <= 1e-2).all(-1)
    name = EXPERIMENT.name
    return [
        share_claim(
            f"{name}/both-fit",
            f"At width {width} small and large starts alike fit the observed entries of an instance"
            " to 1 %.",
            f"{_PUZZLE}: the training error does not tell the solutions apart",
            fitted.ravel(),
            Target(">=", 0.85),
        ),
        share_claim(
            f"{name}/too-narrow",
            f"Width {config.inner_widths[narrowest]}, below the rank, leaves a test error of 10 %"
            " and more, even from a small start.",
            "derived: the best fit of a lower rank",
            outcome.test_at(narrowest, SMALL) >= 0.1,
            Target(">=", 0.85),
        ),
        share_claim(
            f"{name}/small-start",
            f"From a small start width {width} finds the unobserved entries to 1 %.",
            f"{_MF}: the flow passes through the invariant manifolds of low rank",
            outcome.test_at(widest, SMALL) <= 1e-2,
            Target(">=", 0.75),
        ),
        bootstrap_claim(
            f"{name}/small-start-width",
            f"From a small start the test error at width {width} is that at width"
            f" {config.inner_widths[wider]}, within a factor of 2 (decades, median).",
            f"{_PUZZLE}: over-parameterization does not hurt",
            outcome.growth(wider, widest, SMALL),
            Target("in", (-0.3, 0.3)),
        ),
        share_claim(
            f"{name}/large-start",
            f"From a large start width {width} errs by half and more on unobserved entries.",
            "derived: what the data leave free stays where it starts",
            outcome.test_at(widest, LARGE) >= 0.5,
            Target(">=", 0.8),
        ),
        bootstrap_claim(
            f"{name}/large-start-width",
            f"From a large start the test error grows from width {config.rank} to width {width} by"
            " two decades and more (median).",
            "derived: at the width of the rank the data leave nothing free",
            outcome.growth(just, widest, LARGE),
            Target(">=", 2.0),
        ),
        share_claim(
            f"{name}/too-few",
            "With fewer entries than degrees of freedom at most 25 % of instances are found, by any"
            " width from either start.",
            "derived: dimension of the matrices of that rank",
            (outcome.test[few] <= 1e-2).any((-2, -1)).ravel(),
            Target("<=", 0.25),
        ),
    ]


def _rows(config: Config, outcome: Outcome) -> list[dict[str, float]]:
    """Median test error of each sample size, width and start."""
    median = np.median(outcome.test, axis=1)
    return [
        {
            "observed entries": size,
            "inner width": width,
            "parameters": 2 * config.side * width,
            "test error, small start": float(small),
            "test error, large start": float(large),
        }
        for size, by_width in zip(config.sample_sizes, median, strict=True)
        for width, (small, large) in zip(config.inner_widths, by_width, strict=True)
    ]
