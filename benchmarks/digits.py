"""Adam on a small CNN that learns 50 real digits: curvatures, eigenvalues, convolutions.

First what curvature costs at every step, then how exact the largest eigenvalue is, then what the
convolutions cost as the product with image patches that :mod:`phenodl.models.cnn` takes on a CPU
and as XLA's own, in the model's layout and with the images first, as one would write it. The loop
around them is that of training, a scan over steps of several runs.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

import phenodl
from benchmarks import timing
from benchmarks.timing import Row
from phenodl import sweep, training
from phenodl.data import images
from phenodl.models import cnn
from phenodl.optim import adam
from phenodl.protocol import Data, Layout, Problem, View
from phenodl.spikes import curvatures

PLAIN = "plain Adam"
MEASURED = {
    PLAIN: [],
    "+ λ_grad (B)": [curvatures.gradient_probe(which=["curvature_b"])],
    "+ B and C": [curvatures.gradient_probe(which=["curvature_b", "curvature_c"])],
    "+ λ_max(Ĥ)": [curvatures.eigenvalue_probe(which=["lambda_max_adam"])],
}
ROWS = [
    Row(PLAIN, PLAIN),
    Row("+ λ_grad (B)", PLAIN, "≤ 2"),
    Row("+ B and C", PLAIN),
    Row("+ λ_max(Ĥ)", PLAIN, "≤ 6"),
]
CONVOLUTIONS: dict[str, cnn.Convolution] = {"patches and matmul": "patches", "XLA's own": "xla"}
IMAGES_FIRST = "XLA's own, images first"
CONVOLUTION_ROWS = [
    Row("patches and matmul", "patches and matmul"),
    Row("XLA's own", "patches and matmul", "≥ 4"),
    Row(IMAGES_FIRST, "patches and matmul", "≥ 4"),
]
METHOD = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
LAYOUT = Layout(width=4)


def report(quick: bool) -> Iterator[str]:
    """The table of costs, the share of exact eigenvalues, and the table of convolutions."""
    rounds, chunk = (3, 20) if quick else (11, 50)
    try:
        data = images.digits(50)
    except ModuleNotFoundError as error:
        yield f"Not measured: {error}."
        return
    problem, runs = cnn.problem(*data), seeds(8)
    sides = timing.engines(
        problem, METHOD, runs, MEASURED, chunk=chunk, rounds=rounds, layout=LAYOUT
    )
    yield from timing.table(timing.interleave(sides, rounds), ROWS, "ms")
    yield f"\n{exactness(problem, steps=300 if quick else 700)}\n"

    problems = {name: cnn.problem(*data, convolution=way) for name, way in CONVOLUTIONS.items()} | {
        IMAGES_FIRST: images_first(*data)
    }
    sides = {
        name: timing.engine(each, METHOD, runs, chunk=chunk, rounds=rounds, layout=LAYOUT)
        for name, each in problems.items()
    }
    yield from timing.table(timing.interleave(sides, rounds), CONVOLUTION_ROWS, "ms")


def seeds(count: int) -> sweep.Runs:
    """Runs of Adam that differ in their seed."""
    return sweep.product(key=jax.random.key(0), seed=range(count), learning_rate=0.01, b2=0.999)


def exactness(problem: Problem, steps: int, since: int = 200, every: int = 10) -> str:
    """Holds λ_max(Ĥ) of every step against a value of many more products, a sentence.

    All 3658 eigenvalues of a dense Hessian would take minutes per step. 24 products every ten
    steps, in a block of two, agree with 48 to 2e-6.
    """
    few = curvatures.eigenvalue_probe(which=["lambda_max_adam"])
    many = curvatures.eigenvalue_probe(which=["lambda_max_adam"], products=24, every=every)

    def renamed(state: PyTree, view: View) -> tuple[PyTree, dict[str, Array]]:
        state, values = many.measure(state, view)
        return state, {"reference": values["lambda_max_adam"]}

    reference = many._replace(measure=renamed)
    results = phenodl.collect(
        training.train(
            problem, METHOD, seeds(2), steps=steps, probes=[few, reference], layout=LAYOUT
        )
    )
    followed = results.lambda_max_adam.transpose("seed", "step").values[:, since::every]
    exact = results.reference.transpose("seed", ...).values[:, since // every :]
    errors = np.abs(followed / exact - 1)
    return (
        f"λ_max(Ĥ) by three products within 1e-3 of its value by 24 on "
        f"{np.mean(errors <= 1e-3):.0%} of {errors.size} steps from step {since} on (target "
        f"97 %), within 1e-2 on {np.mean(errors <= 1e-2):.0%}."
    )


def images_first(
    pictures: Float[np.ndarray, "n height width"], labels: Float[np.ndarray, "n classes"]
) -> Problem:
    """The same network as one would write it in JAX: NHWC, ``lax.conv_general_dilated``."""
    model = cnn.problem(pictures, labels)

    def convolve(layer: cnn.Layer, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        out = jax.lax.conv_general_dilated(
            x, layer["weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        out = jax.nn.relu(out + layer["bias"][None, None, None])
        n, height, width, channels = out.shape
        return out.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))

    def loss(params: cnn.Params, batch: Data) -> Float[Array, ""]:
        x = convolve(params["conv2"], convolve(params["conv1"], batch["images"]))
        x = x.reshape(len(x), -1)
        x = jax.nn.relu(x @ params["dense1"]["weight"] + params["dense1"]["bias"][None])
        x = x @ params["dense2"]["weight"] + params["dense2"]["bias"][None]
        return jnp.mean((x - batch["labels"]) ** 2)

    return model._replace(loss=loss, data={"images": pictures[..., None], "labels": labels})
