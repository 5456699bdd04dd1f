"""Curvature at every step of Adam on a small transformer, on mini-batches of random tokens.

First what it costs, then how exact the largest eigenvalue is while its Hessian changes with every
batch.
"""

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import timing
from benchmarks.eigenvalues import EVERY_STEP, MEASURED, PLAIN, exactness
from benchmarks.timing import Row
from phenodl import sweep, training
from phenodl.models import transformer
from phenodl.models.transformer import Sizes
from phenodl.optim import adam
from phenodl.protocol import Layout, Problem
from phenodl.spikes import curvatures

SIDES = MEASURED | {
    "+ B every 10th step": [curvatures.gradient_probe(which=["curvature_b"], every=10)]
}
TARGETS = {"+ λ_grad (B)": "≤ 2.5", EVERY_STEP: "≤ 6"}
ROWS = [Row(name, PLAIN, TARGETS.get(name, "")) for name in SIDES]
METHOD = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
LAYOUT = Layout(width=1)
CHUNK = 40  # a multiple of all cadences


def report(quick: bool) -> Iterator[str]:
    """The table of costs, then the shares of exact eigenvalues."""
    rounds = 3 if quick else 11
    problem = random_tokens()
    runs = sweep.product(key=jax.random.key(0), seed=range(2), learning_rate=0.005, b2=0.999)
    sides = timing.engines(problem, METHOD, runs, SIDES, chunk=CHUNK, rounds=rounds, layout=LAYOUT)
    yield from timing.table(timing.interleave(sides, rounds), ROWS, "ms")
    yield ""
    yield from exactness(problem, METHOD, runs, steps=80 if quick else 400, since=40, layout=LAYOUT)


def random_tokens() -> Problem:
    """Nothing to be learnt but the 512 sequences themselves, 64 of them in a batch."""
    sizes = Sizes(vocabulary=64, length=8)
    tokens = np.random.default_rng(0).integers(0, sizes.vocabulary, (512, sizes.length + 1))
    return transformer.problem(tokens[:, :-1], tokens[:, -1:], sizes, batch_size=64, smoothing=0.1)
