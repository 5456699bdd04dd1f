"""Sees that planted points are critical, splits their units, and states what stays as it was."""

from collections.abc import Mapping

import jax
import numpy as np
import optax
import xarray as xr

from experiments.claims import Claim, Target, bootstrap_claim, exact_claim, share_claim
from experiments.embedding.modules.config import EXPERIMENT, Config
from experiments.embedding.modules.figures import figure
from experiments.embedding.modules.measure import Embeddings, measure
from experiments.embedding.modules.networks import networks, planted, problem
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import probes, sweep, training
from phenodl.compiler import ONCE
from phenodl.protocol import Layout

_EP = "EP (arXiv 2105.14573); derived for"
_WHAT = {"cnn": "convolution", "transformer": "attention"}


def train(config: Config, recorder: Recorder) -> None:
    """Gradient descent that starts at the planted points, where it should stay."""
    method = training.from_optax(lambda hyper: optax.sgd(hyper["learning_rate"]))
    for name, network in networks().items():
        instance = planted(name, config.seed, config.bases, config.residual)
        runs = sweep.product(
            key=jax.random.key(0), instance=instance, learning_rate=config.learning_rate
        )
        recorder.train(
            name,
            problem(network),
            method,
            runs,
            steps=config.steps,
            probes=(probes.loss(), probes.grad_norm()),
            layout=Layout(width=8, compiler_options=ONCE),
            chunk=config.steps,
        )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Output, gradient and inertia after every split."""
    found, claims, rows = {}, [], []
    for name, network in networks().items():
        base = planted(name, config.seed, config.bases, config.residual)
        embedded = measure(network, base["start"], base["targets"], config.draws, config.seed)
        stays = results[name].grad_norm.values
        claims += _claims(name, embedded, stays)
        rows += [_row(name, kind, each) for kind, each in embedded.items()]
        found |= embedded
    return Analysis(claims, {"modules": figure(found)}, {"embeddings": rows})


def _claims(name: str, embedded: Mapping[str, Embeddings], stays: np.ndarray) -> list[Claim]:
    def joined(field: str) -> np.ndarray:
        """One row per base, over all kinds of units and draws."""
        return np.concatenate([getattr(each, field) for each in embedded.values()], axis=1)

    id, what = f"{EXPERIMENT.name}/{name}", _WHAT[name]
    output, gradient, control = (joined(field) for field in ("output", "gradient", "control"))
    n, source = output.size, f"{_EP} {what}"
    counted = np.all([_every(_counted(each)) for each in embedded.values()], axis=0)
    monotone = np.all([_every(_no_less(each)) for each in embedded.values()], axis=0)
    exact = np.all([_every(_as_predicted(each)) for each in embedded.values()], axis=0)
    return [
        exact_claim(
            f"{id}-critical",
            f"Largest gradient norm along gradient descent from {len(stays)} planted points.",
            "premise of the claims below",
            stays.max(),
            len(stays),
            Target("<=", 1e-12),
        ),
        exact_claim(
            f"{id}-output",
            f"Largest change of an output after {n} splits ({', '.join(embedded)}).",
            source,
            output.max(),
            n,
            Target("<=", 1e-12),
        ),
        exact_claim(
            f"{id}-gradient",
            f"Largest gradient norm after {n} splits, null units of the other kinds added.",
            source,
            gradient.max(),
            n,
            Target("<=", 1e-11),
        ),
        bootstrap_claim(
            f"{id}-control",
            "Random units without outgoing weights, which keep the output too, are not critical:"
            " median over critical points of the smallest gradient norm over kinds of units.",
            "negative control",
            control.min(axis=1),
            Target(">", 1e-6),
        ),
        share_claim(
            f"{id}-inertia",
            "No split lowers the number of negative, zero or positive Hessian eigenvalues, at one"
            " critical point where these are clearly apart.",
            f"EP-h (arXiv 2111.15527); derived for {what}",
            monotone[counted],
            Target(">=", 0.6),
        ),
        share_claim(
            f"{id}-degeneracy",
            "All three numbers after every split are those before plus the inertia of ±M, at one"
            " critical point where they are clearly apart.",
            "derived: the Hessian is congruent to that before and M / (α (1 - α))",
            exact[counted],
            Target(">=", 0.6),
        ),
    ]


def _every(met: np.ndarray) -> np.ndarray:
    return np.asarray(met.all(axis=1))


def _counted(embedded: Embeddings) -> np.ndarray:
    """Whether zero eigenvalues are clearly apart from the others, everywhere."""
    return embedded.before.determined & embedded.after.determined & embedded.predicted.determined


def _no_less(embedded: Embeddings) -> np.ndarray:
    pairs = zip(embedded.after[:3], embedded.before[:3], strict=True)
    return np.logical_and.reduce([after >= before for after, before in pairs])


def _as_predicted(embedded: Embeddings) -> np.ndarray:
    pairs = zip(embedded.after[:3], embedded.predicted[:3], strict=True)
    return np.logical_and.reduce([after == predicted for after, predicted in pairs])


def _row(name: str, kind: str, embedded: Embeddings) -> dict[str, object]:
    new = embedded.after.zero - embedded.before.zero
    inside = (embedded.alpha > 0) & (embedded.alpha < 1)
    negatives = embedded.after.negative - embedded.before.negative
    return {
        "network": name,
        "unit": kind,
        "splits": embedded.output.size,
        "output, largest change": float(embedded.output.max()),
        "gradient, largest": float(embedded.gradient.max()),
        "control gradient, smallest": float(embedded.control.min()),
        "zeros before": _range(embedded.before.zero),
        "new zeros": _range(new),
        "new zeros, predicted": _range(embedded.predicted.zero - embedded.before.zero),
        "new negatives, 0 < α < 1": _range(negatives[inside]),
        "new negatives, α outside": _range(negatives[~inside]),
        "undetermined": int((~embedded.after.determined).sum()),
    }


def _range(numbers: np.ndarray) -> str:
    if not numbers.size:
        return "-"
    low, high = numbers.min(), numbers.max()
    return f"{low}" if low == high else f"{low} to {high}"
