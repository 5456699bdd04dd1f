"""Trains each depth on the same instances and states what depth changes."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, share, share_claim
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
        "converged-three-small": (3, small, "three factors from the smaller start", 0.8),
    }
    return [
        share_claim(
            f"{EXPERIMENT.name}/{name}",
            f"The flow of {which} fits the observed entries (loss per entry ≤ 1e-12) in time.",
            source,
            outcomes[depth].converged,
            Target(">=", least),
        )
        for name, (depth, outcomes, which, least) in named.items()
    ]


def _rank_claims(large: Mapping[int, Outcome], small: Mapping[int, Outcome]) -> list[Claim]:
    name, three, two = EXPERIMENT.name, small[3], small[2]
    return [
        share_claim(
            f"{name}/three-always",
            "From the smaller start, three factors that converge never exceed the rank of the"
            " ground truth.",
            "the strongest reading of a bias to low rank; measured here",
            three.within_truth[three.converged],
            Target(">=", 1.0),
            expected="fails",
        ),
        share_claim(
            f"{name}/three-within-truth",
            "From the smaller start, three factors that converge exceed the rank of the ground"
            " truth on 12 % of instances at most.",
            f"{_PAPER}: more depth, stronger bias to low rank",
            three.within_truth[three.converged],
            Target(">=", 0.88),
        ),
        *_paired_claims(
            "three-against-two",
            ("Three factors from the smaller start", "two"),
            _PAPER,
            (three, two),
            Target(">=", 0.25),
            cautious=Target(">=", 0.15),
        ),
        bootstrap_claim(
            f"{name}/minimum-three-against-two",
            "From the smaller start, three factors find the minimum rank more often than two, by a"
            " quarter of the instances where both converge at least.",
            _PAPER,
            _gain(three.minimal, two.minimal)[three.converged & two.converged],
            Target(">=", 0.25),
            np.mean,
        ),
        *_paired_claims(
            "depth-not-scale",
            ("Three factors from the larger start", "two from the smaller one"),
            "control: depth, not the smaller product that more factors start with",
            (large[3], two),
            Target(">", 0),
            cautious=Target(">", 0),
        ),
        *_paired_claims(
            "four-against-three",
            ("Four factors from the larger start", "three"),
            _PAPER,
            (large[4], large[3]),
            Target(">", 0),
            cautious=Target(">", -0.2),
        ),
    ]


def _other_claims(large: Mapping[int, Outcome], along: Mapping[int, Paths]) -> list[Claim]:
    rises = {
        depth: np.where(large[depth].converged, rise_share(each), np.nan)
        for depth, each in along.items()
    }
    both = large[3].converged & large[2].converged
    claims = [
        share_claim(
            f"{EXPERIMENT.name}/effective-rank",
            "From the larger start, three factors reach a lower effective rank than two on most"
            " instances where both converge.",
            _PAPER,
            (large[3].effective_rank < large[2].effective_rank)[both],
            Target(">", 0.5),
        ),
    ]
    for name, deeper, depth, least in (("two-to-three", 3, 2, 1.5), ("three-to-four", 4, 3, 4.0)):
        ratio = rises[depth] / rises[deeper]
        claims.append(
            bootstrap_claim(
                f"{EXPERIMENT.name}/sharper-{name}",
                f"From depth {depth} to {deeper} the share of the time in which the first singular"
                f" value rises falls by a factor of {least:g} at least, in the median of instances"
                " where both converge.",
                "derived: escape from zero takes a time of order std^-(L-2), log(1/std) at depth 2",
                ratio[np.isfinite(ratio)],
                Target(">=", least),
            )
        )
    return claims


def _paired_claims(
    name: str,
    called: tuple[str, str],
    source: str,
    pair: tuple[Outcome, Outcome],
    target: Target,
    cautious: Target,
) -> list[Claim]:
    """Whether the first of a pair stays within the true rank more often, instance by instance.

    Once where both converge; and once over all instances, where what has not converged counts
    against the first and for the second, with a target of its own.
    """
    first, second = pair
    name = f"{EXPERIMENT.name}/{name}"
    both = first.converged & second.converged
    surely = first.within_truth & first.converged
    possibly = second.within_truth | ~second.converged
    more_often = f"{called[0]} stay within the rank of the ground truth more often than {called[1]}"
    return [
        bootstrap_claim(
            name,
            f"{more_often}: the difference of the shares is {target}, among instances where both"
            " converge.",
            source,
            _gain(first.within_truth, second.within_truth)[both],
            target,
            np.mean,
        ),
        bootstrap_claim(
            f"{name}-cautious",
            f"{called[0]} against {called[1]}: that difference is {cautious} among all instances"
            " even if what has not converged speaks against the former.",
            source,
            _gain(surely, possibly),
            cautious,
            np.mean,
        ),
    ]


def _gain(deeper: np.ndarray, shallower: np.ndarray) -> np.ndarray:
    """1, 0 or -1 per instance: whether the deeper product alone succeeded, or the other alone."""
    return deeper.astype(int) - shallower.astype(int)


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
