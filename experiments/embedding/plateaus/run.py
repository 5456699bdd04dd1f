"""Trains wide networks from three starts, holds their plateaus against narrow critical points."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array

from experiments.embedding.plateaus import figures, ledger, narrow, rests, starts
from experiments.embedding.plateaus.config import Config
from experiments.experiment import Analysis
from experiments.recorder import Recorder
from phenodl import probes, sweep, training
from phenodl.compiler import QUICKLY
from phenodl.embedding import condensation
from phenodl.protocol import Data, Hyper, Layout, Method, Probe, View

STARTS = {
    "condensing": starts.condensing,
    "leader": starts.leader,
    "gaussian": starts.gaussian,
}
_STEPS_PER_PART = 16_000


def train(config: Config, recorder: Recorder) -> None:
    """The searches of narrow critical points, and the wide networks from each of the starts."""
    narrow.search(config, recorder)
    wide = narrow.staircases(config, config.units)
    problem = wide.problem._replace(init=_given_start)
    # One method, one set of probes, one layout, and so one compilation for the three of them.
    shared = {"method": _momentum(config), "probes": _probes(config.every), "layout": _layout()}
    for name, draw in STARTS.items():
        start = draw(config)
        runs = len(jax.tree.leaves(start)[0])
        targets = np.repeat(wide.targets, runs // config.targets, axis=0)
        steps = config.leader_steps if name == "leader" else config.steps
        recorder.train(
            name,
            problem,
            runs=sweep.product(
                key=jax.random.key(config.seed), instance={"targets": targets, "start": start}
            ),
            steps=steps,
            chunk=_STEPS_PER_PART,
            **shared,
        )


def analyze(config: Config, results: Mapping[str, xr.Dataset]) -> Analysis:
    """Where the runs rest, at which critical points, and what their units look like there."""
    wide = narrow.staircases(config, config.units)
    entries = narrow.catalogues(config, results)
    histories = {name: rests.read(results[name]) for name in STARTS}
    found = {
        name: rests.rests(history, entries, wide.inputs) for name, history in histories.items()
    }
    reduced = ledger.reductions(config, found["condensing"])
    target = ledger.best_example(found["leader"])
    both = {name: histories[name] for name in ("condensing", "leader")}
    shown = {"condensing": target * config.keys, "leader": target}
    one = {name: rests.gaps(each, 1).reshape(config.targets, -1) for name, each in found.items()}
    against = {
        "condensing": histories["condensing"].take(slice(None, None, config.keys)),
        "gaussian": histories["gaussian"],
    }
    return Analysis(
        claims=ledger.claims(config, histories, found, reduced),
        figures={
            "plateaus": figures.curves(both, found, entries[target], shown),
            "circle": figures.circle(histories["leader"], found["leader"][target], target),
            "orientation": figures.orientation(both, found, shown),
            "gaps": figures.gaps(one, rests.gaps(found["leader"], 2)),
            "gaussian": figures.control(
                against, {name: rests.condensed(each) for name, each in against.items()}
            ),
        },
        tables=ledger.tables(config, entries, found, reduced),
    )


def _given_start(key: Array, data: Data, hyper: Hyper) -> Any:
    del key, hyper
    return data["start"]


def _momentum(config: Config) -> Method:
    """Heavy-ball gradient descent in the coordinates in which every width moves alike."""
    sgd = optax.sgd(config.learning_rate, momentum=config.momentum)
    return condensation.mean_field(training.from_optax(lambda hyper: sgd))


def _probes(every: int) -> tuple[Probe, ...]:
    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {
            f"{kind}_{layer}": view.params[f"layer_{layer}"][kind]
            for layer in (0, 1)
            for kind in ("weight", "bias")
        }

    return probes.loss(every), probes.grad_norm(every), Probe(measure, every=every)


def _layout() -> Layout:
    return Layout(width=12, blocks=1, compiler_options=QUICKLY)
