"""Full-batch Adam on real digits with all curvatures at every step, and what they foretell."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from experiments.claims import Claim, Estimate, Target, bootstrap, share
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from experiments.spikes.digits import figures
from experiments.spikes.digits.config import EXPERIMENT, Config
from experiments.spikes.digits.scores import (
    SIGNALS,
    START,
    WINDOW,
    Foresight,
    decay_factors,
    falls_before_alarm,
    find_spikes,
    foresight,
    precision,
)
from phenodl import probes, sweep, training
from phenodl.data.images import digits
from phenodl.models import cnn
from phenodl.optim import adam
from phenodl.protocol import Layout, Probe, View
from phenodl.spikes import alarms, curvatures
from phenodl.spikes.detect import Spikes

NAME = EXPERIMENT.name
SPIKE = "SPIKE (arXiv 2506.04805)"


def train(config: Config, recorder: Recorder) -> None:
    """One training of all seeds."""
    recorder.train(
        "adam",
        cnn.problem(*digits(config.images)),
        training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation()),
        sweep.product(
            key=jax.random.key(0),
            seed=range(config.first_seed, config.first_seed + config.seeds),
            **asdict(config.optimizer),
        ),
        steps=config.steps,
        probes=[
            probes.loss(),
            probes.grad_norm(),
            moments_probe(),
            curvatures.threshold_probe(),
            curvatures.gradient_probe(),
            curvatures.eigenvalue_probe(which=["lambda_max"], products=config.plain_products),
            curvatures.eigenvalue_probe(which=["lambda_max_adam"], products=config.products),
        ],
        layout=Layout(width=4),
    )


def moments_probe() -> Probe:
    """Records g² and v̂ summed over each layer, in the order of the layers' names."""

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        squared = jax.tree.map(jnp.square, view.objective.grads)
        corrected = adam.second_moment(view.method_state, b2=view.hyper["b2"])
        sums = {"squared_gradient": squared, "second_moment": corrected}
        return state, {
            name: jnp.stack(list(adam.layer_sums(tree).values())) for name, tree in sums.items()
        }

    return Probe(measure)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """The claims about alarms and spikes, with the curvatures around them."""
    runs = results["adam"]
    spikes = find_spikes(runs.loss, config.rise, config.optimizer.b1)
    whole, late = (
        {
            signal: foresight(runs, signal, spikes, since=since, shifts=config.shifts)
            for signal in SIGNALS
        }
        for since in (0, START)
    )
    return Analysis(
        claims=[
            *spike_claims(runs, spikes),
            *alarm_claims(whole, late),
            *decay_claims(config, runs, whole["curvature_a"], spikes),
        ],
        figures={
            "curvatures": figures.curvatures(runs, spikes),
            "around-trigger": figures.around_trigger(runs, spikes),
            "lead-times": figures.lead_times(whole),
            "second-moments": figures.second_moments(runs, spikes),
        },
        tables={"alarms": rows(whole, 0) + rows(late, START)},
    )


def spike_claims(runs: xr.Dataset, spikes: Spikes) -> list[Claim]:
    """Claims about the spikes themselves."""
    seed, spike = np.nonzero(spikes.trigger >= 0)
    below = (runs.lambda_max < runs.threshold).transpose("seed", "step").values
    innocent = below[seed, spikes.trigger[seed, spike]]
    seeds = len(spikes.trigger)
    return [
        Claim(
            f"{NAME}/spikes",
            "Most runs spike",
            SPIKE,
            *share(len(np.unique(seed)), seeds),
            seeds,
            Target(">", 0.5),
        ),
        Claim(
            f"{NAME}/plain-hessian",
            "When a spike is triggered, λ_max of the Hessian itself is below 2/η: it is the "
            "preconditioner that makes the step unstable",
            SPIKE,
            *share(innocent.sum(), innocent.size),
            innocent.size,
            Target(">=", 0.95),
        ),
    ]


def alarm_claims(whole: Mapping[str, Foresight], late: Mapping[str, Foresight]) -> list[Claim]:
    """Claims about the alarms of A, the curvature along the gradient, and of λ_max(Ĥ).

    Args:
        whole: all alarms, by signal.
        late: those of the steps from START on.
    """
    a, top = whole["curvature_a"], whole["lambda_max_adam"]
    seeds = len(a.leads)
    claims = []
    for key, name, found in (("a", "A", a), ("lambda-max", "λ_max(Ĥ)", top)):
        foreseen, spikes = found.counts.foreseen.sum(), found.counts.spikes.sum()
        claims += [
            Claim(
                f"{NAME}/{key}-recall",
                f"{name} crosses 2/η before the spike: share of spikes",
                SPIKE,
                *share(foreseen, spikes),
                int(spikes),
                Target(">=", 0.95),
            ),
            Claim(
                f"{NAME}/{key}-chance",
                f"Alarms of {name} are right more often than the same alarms at random times: "
                "difference of precision",
                "circular shifts of the alarms",
                *_difference(found.counts, found.chance),
                seeds,
                Target(">", 0),
            ),
        ]
    return [
        *claims,
        Claim(
            f"{NAME}/precision",
            "Alarms of A are right more often than those of λ_max(Ĥ): difference of precision",
            f"{SPIKE}, λ_grad against λ_max",
            *_difference(a.counts, top.counts),
            seeds,
            Target(">=", 0.1),
        ),
        Claim(
            f"{NAME}/precision-late",
            f"The same without the alarms of the first {START} steps, where no spike is looked for",
            f"{SPIKE}, λ_grad against λ_max",
            *_difference(*(late[name].counts for name in ("curvature_a", "lambda_max_adam"))),
            seeds,
            Target(">", 0),
        ),
        Claim(
            f"{NAME}/lead",
            "A crosses 2/η ahead of the spike: median steps from alarm to trigger",
            SPIKE,
            *bootstrap(a.leads, _median),
            seeds,
            Target(">=", 1),
        ),
    ]


def decay_claims(config: Config, runs: xr.Dataset, found: Foresight, spikes: Spikes) -> list[Claim]:
    """Claims about the second moment before the spikes, ``found`` being those that A foretells."""
    b2 = config.optimizer.b2
    errors = np.abs(decay_factors(runs, b2) - b2).max(axis=1)
    falls = falls_before_alarm(runs, found, spikes)
    return [
        Claim(
            f"{NAME}/decay",
            "Where g² < v/10, v of every layer decays by the factor β2 per step: error of the "
            "worst layer in units of 1 - β2, median over seeds",
            f"{SPIKE}, decay of the preconditioner",
            *bootstrap(errors / (1 - b2), _median),
            len(errors),
            Target("<", 0.05),
        ),
        Claim(
            f"{NAME}/preconditioner-grows",
            f"Over the {WINDOW} steps before the alarm of A, v̂ of every layer falls: share of "
            "spikes",
            f"{SPIKE}, decay of the preconditioner",
            *share(falls.sum(), falls.size),
            falls.size,
            Target(">=", 0.9),
        ),
    ]


def rows(found: Mapping[str, Foresight], since: int) -> list[dict[str, Any]]:
    """The table of scores, a row per signal."""
    return [
        {
            "signal": label,
            "alarms from step": since,
            "precision": float(alarms.precision(found[name].counts)),
            "by chance": float(alarms.precision(found[name].chance)),
            "recall": float(alarms.recall(found[name].counts)),
            "recall by chance": float(alarms.recall(found[name].chance)),
            "median lead": _median(found[name].leads),
            "alarms": int(found[name].counts.true.sum() + found[name].counts.false.sum()),
            "begun inside a spike, left out": int(found[name].counts.dropped.sum()),
        }
        for name, label in SIGNALS.items()
    ]


def _difference(one: alarms.Counts, other: alarms.Counts) -> Estimate:
    """How much higher one precision is, bootstrapped over seeds in pairs."""
    seeds = np.arange(len(one.true))
    return bootstrap(seeds, lambda some: precision(one, some) - precision(other, some))


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan
