"""Gradient descent to the held-out minimum, and what is recorded on the way."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.completion.data.config import Config
from experiments.completion.data.early_stopping import at_least_error, patience, watched
from experiments.completion.data.task import Part, Task
from phenodl.completion import norms
from phenodl.models import factorization
from phenodl.models.factorization import Factors
from phenodl.optim import flow
from phenodl.protocol import Layout, Params, Probe, View


def training(task: Task, config: Config, width: int) -> Mapping[str, Any]:
    """The arguments of a training but for its name and its runs, of which there are ``width``.

    A large matrix is trained with longer steps, and its singular values, which cost as much as
    several of them, are measured now and then.

    The product A B is a dense matrix: for ratings it is faster than to gather the rows and columns
    of the observed entries.
    """
    first_step, grow, every = (0.2, 1.02, 1) if task.compares(config) else (1.0, 1.05, 10)
    method = flow.bold_driver(first_step / (task.growth_rate or 1.0), grow)
    return {
        "problem": factorization.problem(task.inner_width(config))._replace(
            data={"target": jnp.asarray(task.target), "mask": jnp.asarray(task.mask)}
        ),
        "method": watched(method, lambda factors: _error(factors, task.stop)),
        "probes": (
            _history(task),
            _spectrum(every),
            _best(),
            _source(task.digest),
        ),
        "stop": patience(config.patience),
        "steps": config.steps,
        "chunk": 30,
        "layout": Layout(width=width, blocks=1),
    }


def _error(factors: Factors, part: Part) -> Float[Array, ""]:
    """The root mean square error on some entries, standardised."""
    learned = factorization.product(factors)[jnp.asarray(part.row), jnp.asarray(part.column)]
    return jnp.sqrt(jnp.mean((learned - jnp.asarray(part.value)) ** 2))


def _history(task: Task) -> Probe:
    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        mean_loss = factorization.mean_loss(view.objective.loss, view.batch["mask"])
        errors = {
            "train_error": jnp.sqrt(2 * mean_loss),
            "stop_error": _error(view.params, task.stop),
            "test_error": _error(view.params, task.test),
        }
        return state, errors | {"time": view.time}

    return Probe(measure)


def _spectrum(every: int) -> Probe:
    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        values = norms.singular_values(_core(view.params))
        return state, {
            "singular_values": values,
            "effective_rank": norms.effective_number(values),
        }

    return Probe(measure, every=every)


def _core(factors: Factors) -> Float[Array, "left right"]:
    """A matrix no larger than the inner width that has the nonzero singular values of A B."""
    left = jnp.linalg.qr(factors.A, mode="r")
    right = jnp.linalg.qr(factors.B.T, mode="r")
    return left @ right.T


def _best() -> Probe:
    """The matrix at the held-out minimum."""

    def init(key: Key[Array, ""], params: Params) -> Array:
        del key
        return jnp.zeros_like(factorization.product(params))

    def measure(state: Array, view: View) -> tuple[Array, dict[str, Array]]:
        learned = jnp.where(at_least_error(view), factorization.product(view.params), state)
        step = view.method_state.least_step
        return learned, {"W": learned, "best_step": step}

    return Probe(measure, init, emit="end")


def _source(digest: bytes) -> Probe:
    """Which data were trained on, chunk by chunk: a file may be edited before a run is resumed."""
    known = np.frombuffer(digest, np.uint8)

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        del view
        return state, {"digest": jnp.asarray(known)}

    return Probe(measure, emit="chunk")
