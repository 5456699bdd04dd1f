"""The curvatures that are measured beside Adam's steps, and how exact the largest eigenvalue is.

Unless its name says otherwise, λ_max(Ĥ) is by three products at every step.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Array, PyTree

import phenodl
from phenodl import training
from phenodl.protocol import Layout, Method, Probe, Problem, View
from phenodl.spikes import curvatures
from phenodl.sweep import Runs

PLAIN = "plain Adam"
EVERY_STEP = "+ λ_max(Ĥ)"
EIGHTH_STEP = "+ λ_max(Ĥ), 10 products every 8th step"
EIGENVALUES = {
    EVERY_STEP: curvatures.eigenvalue_probe(which=["lambda_max_adam"]),
    EIGHTH_STEP: curvatures.eigenvalue_probe(which=["lambda_max_adam"], products=10, every=8),
}
MEASURED: dict[str, Sequence[Probe]] = {
    PLAIN: [],
    "+ λ_grad (B)": [curvatures.gradient_probe(which=["curvature_b"])],
    "+ B and C": [curvatures.gradient_probe(which=["curvature_b", "curvature_c"])],
    **{name: [probe] for name, probe in EIGENVALUES.items()},
}


def exactness(
    problem: Problem,
    method: Method,
    runs: Runs,
    *,
    steps: int,
    since: int = 200,
    layout: Layout,
) -> Iterator[str]:
    """Holds every λ_max(Ĥ) against a value of many more products, a sentence for each.

    All eigenvalues of a dense Hessian would take minutes per step. 24 products every eighth step,
    in a block of two, agree with 48 to 2e-6 on 50 digits.

    Args:
        problem: what is trained.
        method: by which Adam.
        runs: few of them.
        steps: of training.
        since: the first step that counts; a multiple of 8.
        layout: of the runs.
    """
    reference = curvatures.eigenvalue_probe(which=["lambda_max_adam"], products=24, every=8)
    followed = [_renamed(probe, name) for name, probe in EIGENVALUES.items()]
    results = phenodl.collect(
        training.train(
            problem,
            method,
            runs,
            steps=steps,
            probes=[*followed, _renamed(reference, "reference")],
            layout=layout,
        )
    )
    exact = results["reference"].transpose("seed", ...).values[:, since // reference.every :]
    for name, probe in EIGENVALUES.items():
        values = results[name].transpose("seed", ...).values
        shared = values[:, since // probe.every :: reference.every // probe.every]
        errors = np.abs(shared / exact - 1)
        yield (
            f"{name.removeprefix('+ ')} within 1e-3 of its value by 24 products on "
            f"{np.mean(errors <= 1e-3):.0%} of {errors.size} measured steps from step {since} on "
            f"(target 97 %), within 1e-2 on {np.mean(errors <= 1e-2):.0%}."
        )


def _renamed(probe: Probe, name: str) -> Probe:
    """The same probe, whose eigenvalue alone is recorded, by this name."""

    def measure(state: PyTree, view: View) -> tuple[PyTree, Mapping[str, Array]]:
        state, values = probe.measure(state, view)
        return state, {name: values["lambda_max_adam"]}

    return probe._replace(measure=measure)
