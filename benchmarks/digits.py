"""Curvature at every step of Adam on a small CNN that learns 50 real digits, full batch."""

from collections.abc import Iterator

import jax

from benchmarks import timing
from benchmarks.timing import Row
from phenodl import sweep, training
from phenodl.data import images
from phenodl.models import cnn
from phenodl.optim import adam
from phenodl.protocol import Layout
from phenodl.spikes import curvatures

PLAIN = "plain Adam"
MEASURED = {
    PLAIN: [],
    "+ λ_grad (B)": [curvatures.gradient_probe(which=["curvature_b"])],
    "+ B and C": [curvatures.gradient_probe(which=["curvature_b", "curvature_c"])],
    "+ λ_max(Ĥ)": [curvatures.eigenvalue_probe(which=["lambda_max_adam"])],
}
ROWS = [Row(name, PLAIN) for name in MEASURED]


def report(quick: bool) -> Iterator[str]:
    """The table of costs."""
    rounds, chunk = (3, 20) if quick else (11, 50)
    try:
        problem = cnn.problem(*images.digits(50))
    except ModuleNotFoundError as error:
        yield f"Not measured: {error}."
        return
    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    runs = sweep.product(key=jax.random.key(0), seed=range(8), learning_rate=0.01, b2=0.999)
    layout = Layout(width=4)
    sides = timing.engines(
        problem, method, runs, MEASURED, chunk=chunk, rounds=rounds, layout=layout
    )
    yield from timing.table(timing.interleave(sides, rounds), ROWS, "ms")
