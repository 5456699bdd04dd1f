"""Curvature at every step of Adam on a small transformer, on mini-batches of random tokens."""

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import timing
from benchmarks.timing import Row
from phenodl import sweep, training
from phenodl.models import transformer
from phenodl.models.transformer import Sizes
from phenodl.optim import adam
from phenodl.protocol import Layout
from phenodl.spikes import curvatures

PLAIN = "plain Adam"
MEASURED = {
    PLAIN: [],
    "+ λ_grad (B)": [curvatures.gradient_probe(which=["curvature_b"])],
    "+ B and C": [curvatures.gradient_probe(which=["curvature_b", "curvature_c"])],
    "+ λ_max(Ĥ)": [curvatures.eigenvalue_probe(which=["lambda_max_adam"])],
    "+ B every 10th step": [curvatures.gradient_probe(which=["curvature_b"], every=10)],
}
TARGETS = {"+ λ_grad (B)": "≤ 2.5", "+ λ_max(Ĥ)": "≤ 6"}
ROWS = [Row(name, PLAIN, TARGETS.get(name, "")) for name in MEASURED]


def report(quick: bool) -> Iterator[str]:
    """The table of costs."""
    rounds, chunk = (3, 20) if quick else (11, 50)
    sizes = Sizes(vocabulary=64, length=8)
    tokens = np.random.default_rng(0).integers(0, sizes.vocabulary, (512, sizes.length + 1))
    problem = transformer.problem(
        tokens[:, :-1], tokens[:, -1:], sizes, batch_size=64, smoothing=0.1
    )
    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    runs = sweep.product(key=jax.random.key(0), seed=range(2), learning_rate=0.005, b2=0.999)
    layout = Layout(width=1)
    sides = timing.engines(
        problem, method, runs, MEASURED, chunk=chunk, rounds=rounds, layout=layout
    )
    yield from timing.table(timing.interleave(sides, rounds), ROWS, "ms")
