"""The trainings that spike, on which predictors and controllers are held against each other.

Four on the full batch (tanh networks on a sum of sines and on a quadratic target of 50 variables,
the latter in two ways; a convolutional network on digits) and two on mini-batches (a transformer on
the anchor task, a decoder on real text). Each has samples of the same kind that it does not see.
"""

import functools
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.config import Adam
from experiments.control.names import DEEP, DIGITS, FREQUENT, LANGUAGE, SEQUENCE, SINE
from experiments.spikes.highdim import config as highdim
from phenodl import sweep
from phenodl.compiler import QUICKLY
from phenodl.data import text
from phenodl.data.functions import quadratic_target, sine_mixture
from phenodl.data.images import digits
from phenodl.data.sequences import anchor_sequences
from phenodl.models import cnn, decoder, mlp, transformer
from phenodl.models.losses import smoothing_floor
from phenodl.protocol import Layout, Problem
from phenodl.sweep import Runs

SMOOTHING = 0.1
"""Label smoothing of the transformers; plain cross-entropy rarely spikes at these sizes."""


class Task(NamedTuple):
    """A training that spikes under Adam.

    Attributes:
        problem: what is minimised.
        unseen: a batch of samples that are not trained on, for the held-out loss.
        optimizer: Adam's hyper-parameters.
        steps: of training.
        x64: whether it is in double precision: *deep* and *frequent* underflow otherwise.
        floor: the lowest loss there can be.
        window: steps over which the loss is averaged before spikes are looked for.
        layout: of the runs.
    """

    problem: Problem
    unseen: Any
    optimizer: Adam
    steps: int
    x64: bool = False
    floor: float = 0.0
    window: int = 1
    layout: Layout = Layout(compiler_options=QUICKLY)


MINIBATCH = 10
"""Window of trainings on mini-batches."""


@functools.cache
def task(name: str) -> Task:
    """The training of that name; one object, so that what is built on it is compiled once."""
    with jax.enable_x64(name in (DEEP, FREQUENT)):
        return _TASKS[name]()


def runs(chosen: Task, seeds: range, **hyper: Any) -> Runs:
    """Seeds of a training, with other or further hyper-parameters; a sequence is an axis."""
    values = asdict(chosen.optimizer) | hyper
    with jax.enable_x64(chosen.x64):
        return sweep.product(key=jax.random.key(0), seed=seeds, **values)


def _sine() -> Task:
    points = 100
    inputs, targets = sine_mixture(2 * points - 1)  # every second one is between two of the others
    return Task(
        mlp.problem(inputs[::2], targets[::2], hidden=[20]),
        {"inputs": jnp.asarray(inputs[1::2].T), "targets": jnp.asarray(targets[1::2].T)},
        Adam(learning_rate=0.01),
        steps=5000,
    )


def _quadratic(part: highdim.Training) -> Task:
    seen = 200
    inputs, targets = quadratic_target(part.target_seed, 2 * seen, 50)
    return Task(
        mlp.problem(inputs[:seen], targets[:seen], hidden=[part.width]),
        {"inputs": jnp.asarray(inputs[seen:].T), "targets": jnp.asarray(targets[seen:].T)},
        part.optimizer,
        part.steps,
        x64=True,
    )


def _digits() -> Task:
    seen, unseen = 50, 450
    images, labels = digits(seen + unseen)
    problem = cnn.problem(images[:seen], labels[:seen])
    others = cnn.problem(images[seen:], labels[seen:])
    return Task(problem, others.data, Adam(learning_rate=0.01), steps=600)


def _sequence() -> Task:
    vocabulary, length, seen = 64, 8, 512
    sizes = transformer.Sizes(vocabulary, length, width=64, layers=2, heads=4)
    known, other = (
        anchor_sequences(seed, n=seen, length=length, vocabulary=vocabulary) for seed in (0, 1)
    )
    return Task(
        transformer.problem(*known, sizes, batch_size=64, smoothing=SMOOTHING),
        {"sequences": jnp.asarray(other.tokens), "labels": jnp.asarray(other.labels)},
        Adam(learning_rate=0.005),
        steps=2000,
        floor=smoothing_floor(vocabulary, SMOOTHING),
        window=MINIBATCH,
        layout=Layout(width=1, compiler_options=QUICKLY),
    )


def _language() -> Task:
    source, seen = text.help_topics(), 32
    passages = text.sequences(source, 2 * seen, 64)
    vocabulary = len(source.vocabulary)
    sizes = decoder.Sizes(vocabulary, width=64, layers=2, heads=4, hidden=128, length=64)
    return Task(
        decoder.problem(passages[:seen], sizes, batch_size=seen, smoothing=SMOOTHING),
        jnp.asarray(passages[seen:], jnp.int32),
        Adam(learning_rate=0.01),
        steps=800,
        floor=smoothing_floor(vocabulary, SMOOTHING),
        window=MINIBATCH,
        layout=Layout(width=1, compiler_options=QUICKLY),
    )


_TASKS = {
    SINE: _sine,
    FREQUENT: functools.partial(_quadratic, highdim.FREQUENT),
    DEEP: functools.partial(_quadratic, highdim.DEEP),
    DIGITS: _digits,
    SEQUENCE: _sequence,
    LANGUAGE: _language,
}
