"""Trains each depth on the same instances and states what depth changes."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Estimate, Target, bootstrap, share
from experiments.completion.connected import connected_instances
from experiments.completion.depth import figures
from experiments.completion.depth.config import EXPERIMENT, Config
from experiments.completion.depth.flow import NAMES, training
from experiments.completion.depth.outcome import Outcome, Paths, measure, paths, rise_share
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import sweep
from phenodl.models import deep_factorization

_PAPER = "Arora et al. 2019 (arXiv 1905.13655)"


def train(config: Config, recorder: Recorder) -> None:
    """Every depth on all instances, from the starts that it can leave in time."""
    instances = connected_instances(config.seed, config.masks_per_size)
    for depth, name in NAMES.items():
        runs = sweep.product(
            key=jax.random.key(config.seed),
            fold_in=("instance",),
            init_std=_starts(config, depth),
            instance=instances.data,
        )
        recorder.train(
            name,
            deep_factorization.problem(depth),
            runs=runs,
            steps=config.steps,
            chunk=min(config.steps, 500),
            **training(config.tolerance),
        )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Ranks by depth and start, and how suddenly the singular values rise."""
    instances = connected_instances(config.seed, config.masks_per_size)
    outcomes = {
        (depth, std): measure(instances, results[name].isel(init_std=place))
        for depth, name in NAMES.items()
        for place, std in enumerate(_starts(config, depth))
    }
    large = {depth: outcomes[depth, config.init_std] for depth in NAMES}
    small = {depth: outcomes[depth, config.small_std] for depth in (2, 3)}
    along = {depth: paths(results[name].isel(init_std=0)) for depth, name in NAMES.items()}
    return Analysis(
        claims=[
            *_premises(large, small),
            *_rank_claims(large, small),
            *_other_claims(large, along),
        ],
        figures={
            "rank": figures.rank({config.init_std: large, config.small_std: small}),
            "singular-values": figures.singular_values(along, large),
        },
        tables={"depths": [_row(*which, each) for which, each in outcomes.items()]},
    )


def _starts(config: Config, depth: int) -> tuple[float, ...]:
    return (config.init_std, config.small_std) if depth < 4 else (config.init_std,)


def _premises(large: Mapping[int, Outcome], small: Mapping[int, Outcome]) -> list[Claim]:
    source = "premise of the claims below, which rest on converged runs"
    named = {
        "converged-two": (2, large, "two factors", 0.95),
        "converged-three": (3, large, "three factors", 0.8),
        "converged-four": (4, large, "four factors", 0.65),
        "converged-three-small": (3, small, "three factors from the smaller start", 0.85),
    }
    return [
        _share_claim(
            name,
            f"The flow of {which} fits the observed entries (loss per entry ≤ 1e-12) in time.",
            source,
            outcomes[depth].converged,
            Target(">=", least),
        )
        for name, (depth, outcomes, which, least) in named.items()
    ]


def _rank_claims(large: Mapping[int, Outcome], small: Mapping[int, Outcome]) -> list[Claim]:
    three, two = small[3], small[2]
    counted = three.converged & two.converged
    within = _gain(three.within_truth, two.within_truth, counted)
    # What has not converged counts against depth 3, and for depth 2.
    cautious = _gain(
        three.within_truth & three.converged,
        two.within_truth | ~two.converged,
        np.ones_like(counted),
    )
    matched = _gain(large[3].within_truth, two.within_truth, large[3].converged & two.converged)
    deepest = _gain(
        large[4].within_truth, large[3].within_truth, large[4].converged & large[3].converged
    )
    return [
        _share_claim(
            "three-always",
            "From the smaller start, three factors never exceed the rank of the ground truth.",
            "feasibility study, whose converged runs were mostly those of minimum rank 1",
            three.within_truth[three.converged],
            Target(">=", 1.0),
            expected="fails",
        ),
        _share_claim(
            "three-within-truth",
            "From the smaller start, three factors hardly ever exceed the rank of the ground"
            " truth.",
            f"{_PAPER}: more depth, stronger bias to low rank",
            three.within_truth[three.converged],
            Target(">=", 0.88),
        ),
        _paired_claim(
            "three-against-two",
            "On the same instances and from the same start, three factors stay within the rank of"
            " the ground truth more often than two, by a quarter of all runs at least.",
            _PAPER,
            within,
            Target(">=", 0.25),
        ),
        _paired_claim(
            "three-against-two-cautious",
            "So they do by .15 if all that has not converged speaks against it.",
            _PAPER,
            cautious,
            Target(">=", 0.15),
        ),
        _paired_claim(
            "minimum-three-against-two",
            "Three factors find the minimum rank more often than two, by a quarter at least.",
            _PAPER,
            _gain(three.minimal, two.minimal, counted),
            Target(">=", 0.25),
        ),
        _paired_claim(
            "depth-not-scale",
            "From the larger start, three factors stay within that rank more often than two from"
            " the smaller one, whose product is smaller at the start.",
            "control: depth, not the smaller product that more factors start with",
            matched,
            Target(">", 0),
        ),
        _paired_claim(
            "four-against-three",
            "From the larger start, four factors stay within that rank more often than three.",
            _PAPER,
            deepest,
            Target(">", 0),
        ),
    ]


def _other_claims(large: Mapping[int, Outcome], along: Mapping[int, Paths]) -> list[Claim]:
    rises = {
        depth: np.where(large[depth].converged, rise_share(each), np.nan)
        for depth, each in along.items()
    }
    both = large[3].converged & large[2].converged
    lower = large[3].effective_rank[both] < large[2].effective_rank[both]
    claims = [
        _share_claim(
            "effective-rank",
            "Three factors reach a lower effective rank than two on most instances.",
            _PAPER,
            lower,
            Target(">", 0.5),
        ),
    ]
    for name, deeper, depth, least in (("two-to-three", 3, 2, 1.5), ("three-to-four", 4, 3, 4.0)):
        ratio = rises[depth] / rises[deeper]
        ratio = ratio[np.isfinite(ratio)]
        claims.append(
            _claim(
                f"sharper-{name}",
                f"From depth {depth} to {deeper} the share of the time in which the first singular"
                f" value rises falls by a factor of {least:g} at least, in the median.",
                "derived: escape from zero takes a time of order std^-(L-2), log(1/std) at depth 2",
                len(ratio),
                bootstrap(ratio),
                Target(">=", least),
            )
        )
    return claims


def _gain(deeper: np.ndarray, shallower: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """1, 0 or -1 per instance: whether the deeper product alone succeeded, or the other alone."""
    return (deeper.astype(int) - shallower.astype(int))[counted]


def _share_claim(
    name: str, statement: str, source: str, met: np.ndarray, target: Target, **rest: Any
) -> Claim:
    estimate = share(int(met.sum()), met.size)
    return _claim(name, statement, source, met.size, estimate, target, **rest)


def _paired_claim(
    name: str, statement: str, source: str, gains: np.ndarray, target: Target
) -> Claim:
    """A claim about the mean of differences, instance by instance."""
    return _claim(name, statement, source, len(gains), bootstrap(gains, np.mean), target)


def _claim(
    name: str, statement: str, source: str, n: int, estimate: Estimate, target: Target, **rest: Any
) -> Claim:
    name = f"{EXPERIMENT.name}/{name}"
    return Claim(name, statement, source, n=n, target=target, **estimate._asdict(), **rest)


def _row(depth: int, std: float, outcome: Outcome) -> dict[str, Any]:
    done = outcome.converged

    def median(values: np.ndarray) -> float:
        return float(np.median(values[done])) if done.any() else float("nan")

    return {
        "factors": depth,
        "std of the factors": std,
        "instances": done.size,
        "converged": int(done.sum()),
        "rank within the truth's": share(
            int(outcome.within_truth[done].sum()), done.sum()
        ).measured,
        "rank is minimal": share(int(outcome.minimal[done].sum()), done.sum()).measured,
        "effective rank, median": median(outcome.effective_rank),
        "nuclear excess, median": median(outcome.nuclear_excess),
    }
