"""Curvature at every step of Adam on a small network: what it costs, and how exact it is.

The network is 1-20-1 with tanh on sin x + sin 4x, 100 points, full batch, 64 seeds in float32. The
plain side records the loss; the others record a curvature as well. If PyTorch is installed, it does
the same work beside them.
"""

import importlib.util
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import phenodl
from benchmarks import timing
from benchmarks.timing import Row
from phenodl import probes, sweep, training
from phenodl.curvature import dense, hessian, preconditioned
from phenodl.data.functions import sine_mixture
from phenodl.models import mlp
from phenodl.optim import adam
from phenodl.protocol import Probe, View
from phenodl.spikes import curvatures

SEEDS = 64
LEARNING_RATE, B1, B2, EPS = 0.01, 0.9, 0.999, 1e-8
PLAIN = "plain Adam"
ROWS = [
    Row(PLAIN, PLAIN),
    Row("+ λ_grad (B)", PLAIN, "≤ 1.8"),
    Row("+ B and C", PLAIN, "≤ 2.1"),
    Row("+ λ_max(Ĥ)", PLAIN, "≤ 6"),
    Row("eager PyTorch", PLAIN, "≥ 100"),
    Row("eager PyTorch + λ_grad (B)", "+ λ_grad (B)"),
    Row("eager PyTorch + 3 products", "+ λ_max(Ĥ)"),
    Row("torch.func.vmap", PLAIN),
    Row("torch.func.vmap + λ_grad (B)", "+ λ_grad (B)"),
    Row("torch.func.vmap + 3 products", "+ λ_max(Ĥ)"),
]


def report(quick: bool) -> Iterator[str]:
    """The table of costs, then the share of exact eigenvalues."""
    rounds, chunk = (3, 500) if quick else (15, 1000)
    problem = mlp.problem(*sine_mixture())
    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    runs = sweep.product(
        key=jax.random.key(0),
        seed=range(SEEDS),
        learning_rate=LEARNING_RATE,
        b1=B1,
        b2=B2,
        eps=EPS,
    )
    eigenvalue = curvatures.eigenvalue_probe(which=["lambda_max_adam"])
    measured = {
        PLAIN: (),
        "+ λ_grad (B)": (curvatures.gradient_probe(which=["curvature_b"]),),
        "+ B and C": (curvatures.gradient_probe(which=["curvature_b", "curvature_c"]),),
        "+ λ_max(Ĥ)": (eigenvalue,),
    }
    sides = timing.engines(problem, method, runs, measured, chunk=chunk, rounds=rounds)
    if importlib.util.find_spec("torch"):
        from benchmarks import pytorch

        sides |= pytorch.sides(problem, steps=20 if quick else 50)
    else:
        yield "PyTorch is not installed: pip install 'phenodl[bench]' puts it beside.\n"
    yield from timing.table(timing.interleave(sides, rounds), ROWS)

    steps, every = (500, 25) if quick else (5000, 25)
    results = phenodl.collect(
        training.train(problem, method, runs, steps=steps, probes=[eigenvalue, exact(every)])
    )
    followed = results["lambda_max_adam"].isel(step=slice(None, None, every)).values
    errors = np.abs(followed / results["exact"].values - 1)
    yield (
        f"\nλ_max(Ĥ) within 1e-3 of dense eigvalsh on {np.mean(errors <= 1e-3):.1%} of "
        f"{errors.size} steps (target 97 %); 99th percentile of the error "
        f"{np.quantile(errors, 0.99):.1e}."
    )


def exact(every: int) -> Probe:
    """Records the largest eigenvalue of the materialised preconditioned Hessian."""

    def largest(view: View) -> Array:
        settings = adam.from_hyper(view.hyper)
        now = curvatures.snapshot(view.method_state, settings, view.objective.grads)
        plain = hessian(view.objective.function, view.params)
        matrix = dense(preconditioned(plain, now.diagonal, now.factor), view.params)
        return jnp.linalg.eigvalsh(matrix)[-1]

    return probes.value("exact", largest, every=every)
