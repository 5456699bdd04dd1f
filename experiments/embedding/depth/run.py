"""Searches, trains, lifts, and draws up the claims."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim
from experiments.embedding.depth import bases, deep, figures, lifts, units
from experiments.embedding.depth.config import EXPERIMENT, Config
from experiments.embedding.depth.deep import Deep
from experiments.embedding.depth.lifts import Approximate, Lifted, Points
from experiments.embedding.depth.units import COUNTS, NORMS, Admissible
from experiments.experiment import Analysis
from experiments.recorder import Recorder

_PAPER = "EP-d (arXiv 2205.13283)"
_NAME = EXPERIMENT.name


def train(config: Config, recorder: Recorder) -> None:
    """The critical points of shallow networks, and the deep networks to be pruned."""
    bases.find(config, recorder)
    deep.train(config, recorder)


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Lifts the points; counts what a layer must be like to be lifted; merges layers."""
    family, found = bases.instances(config), bases.found(config, results)
    points = lifts.smooth_points(config, family, found)
    lifted = lifts.lift_all(config, points)
    nearly = lifts.lift_nearly(config, lifts.tanh_points(family, found))
    admissible = units.measure(config)
    trained = deep.measure(config, results)
    eps = np.asarray(config.eps)
    return Analysis(
        claims=[
            *_exact_claims(points, lifted),
            *_approximate_claims(eps, nearly),
            *_set_claims(config, admissible),
            *_pruning_claims(config, trained),
        ],
        figures={
            "approximate-lifts": figures.errors(eps, nearly),
            "eigenvalues": figures.spectra(points, lifted),
            "set-of-lifts": figures.admissible(admissible),
            "pruning": figures.pruning(trained, config.tolerance),
        },
        tables={"lifts": [_row(points, lifted, number) for number in range(len(lifts.PLACES))]},
    )


def _exact_claims(points: Points, lifted: Lifted) -> list[Claim]:
    return [
        exact_claim(
            f"{_NAME}/output",
            "A lift of an ELU or leaky ReLU network by 1, 2 or 3 layers changes no output on the"
            " data by more than 1e-12 (targets of variance 1).",
            _PAPER,
            lifted.output_error.max(),
            lifted.output_error.size,
            Target("<=", 1e-12),
        ),
        exact_claim(
            f"{_NAME}/gradient",
            "Lifted critical points are critical: the gradient norm is at most 1e-11.",
            f"{_PAPER}, embedding principle in depth",
            lifted.grad_norm[:, 1:].max(),
            lifted.output_error.size,
            Target("<=", 1e-11),
        ),
        exact_claim(
            f"{_NAME}/inertia",
            "A lift changes the numbers of negative, zero and positive eigenvalues of the Hessian"
            " by exactly (0, P' - P, 0); counted are the lifts that do not.",
            "derived: near a lift the loss is the shallower one after a submersion",
            int((~lifted.unchanged & lifted.determined).sum()),
            int(lifted.determined.sum()),
            Target("<=", 0),
        ),
    ]


def _approximate_claims(eps: np.ndarray, nearly: Approximate) -> list[Claim]:
    return [
        exact_claim(
            f"{_NAME}/tanh-output",
            "The outputs of a tanh network change by a lift of size ε as ε²: the slope of error"
            " over ε, both as logarithms, departs from 2 by at most .05 at every point.",
            "derived: at an inflection the activation is affine up to ε³, and is divided by ε",
            np.abs(lifts.slopes(eps, nearly.output_error) - 2).max(),
            len(nearly.output_error),
            Target("<=", 0.05),
        ),
        exact_claim(
            f"{_NAME}/tanh-gradient",
            "The gradient at such a lift of a critical point vanishes as ε: the slope departs from"
            " 1 by at most .05 at every point.",
            "derived: the weights behind the new layer are of the size of 1/ε",
            np.abs(lifts.slopes(eps, nearly.grad_norm) - 1).max(),
            len(nearly.grad_norm),
            Target("<=", 0.05),
        ),
    ]


def _set_claims(config: Config, found: Admissible) -> list[Claim]:
    free, normalised = (found.by_count[norm, "[0, ∞)"] for norm in NORMS[:2])
    few, half, many = COUNTS.index(5), COUNTS.index(40), len(COUNTS) - 1
    drawn = config.orders * config.units
    bare = sum(found.bare[norm, "[0, ∞)"] for norm in NORMS[1:])
    return [
        bootstrap_claim(
            f"{_NAME}/more-data",
            f"Of the units that keep {COUNTS[few]} flowers within [0, ∞), at most half keep all"
            f" {COUNTS[many]} (median over orders of the flowers).",
            f"{_PAPER}, on the data",
            free[:, many] / free[:, few],
            Target("<=", 0.5),
        ),
        bootstrap_claim(
            f"{_NAME}/still-more-data",
            f"From {COUNTS[half]} to {COUNTS[many]} flowers the set of such units still shrinks:"
            " the median ratio of its volumes is at most .9.",
            f"{_PAPER}, on the data",
            free[:, many] / free[:, half],
            Target("<=", 0.9),
        ),
        exact_claim(
            f"{_NAME}/normalised",
            "Pre-activations normalised over the data, or over the units of a layer, without a"
            " shift: of random units, or layers, none lies within [0, ∞) on all data; counted are"
            " those that do.",
            "derived: their mean is 0",
            bare,
            drawn + drawn // units.LAYER,
            Target("<=", 0),
        ),
        bootstrap_claim(
            f"{_NAME}/batch-normalisation",
            "Normalised over the data and then shifted by the bias, at most a third as many units"
            f" keep all {COUNTS[many]} flowers within [0, ∞) as without normalisation (median).",
            f"{_PAPER}, on batch normalisation",
            normalised[:, many] / free[:, many],
            Target("<=", 1 / 3),
        ),
    ]


def _pruning_claims(config: Config, trained: Deep) -> list[Claim]:
    plain, normalised = trained.departure.mean(2)
    cost = trained.pruned_loss[0] / trained.loss[0]
    return [
        bootstrap_claim(
            f"{_NAME}/linearization",
            "Batch normalisation suppresses the linearization of layers: trained from the same"
            " start, the mean departure of a network's layers from affine is at least twice as"
            " large with it (median).",
            f"{_PAPER}, on batch normalisation",
            normalised / plain,
            Target(">=", 2.0),
        ),
        bootstrap_claim(
            f"{_NAME}/pruned-layers",
            f"Pruning takes at least 2 of the {deep.HIDDEN} hidden layers out of trained deep tanh"
            " networks (median): merged one by one, the most affine first and the others then"
            f" measured anew, up to a departure of {config.tolerance:g}.",
            f"{_PAPER}, on pruning",
            trained.removed[0],
            Target(">=", 2),
        ),
        bootstrap_claim(
            f"{_NAME}/pruned-loss",
            "Without them, and without further training, the loss is at most 1.3 times as large"
            " (median).",
            f"{_PAPER}, on pruning",
            cost,
            Target("<=", 1.3),
        ),
    ]


def _row(points: Points, lifted: Lifted, number: int) -> dict[str, Any]:
    return {
        "layers lifted": number + 1,
        "points": len(points.subset),
        "saddles among them": int((lifted.inertia[0].negative > 0).sum()),
        "largest change of an output": float(lifted.output_error[:, number].max()),
        "largest gradient norm": float(lifted.grad_norm[:, number + 1].max()),
        "parameters": lifted.eigenvalues[number + 1].shape[1],
        "inertia as predicted": float(lifted.unchanged[:, number].mean()),
        "inertia determined": float(lifted.determined[:, number].mean()),
    }
