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
from jaxtyping import Array, Float

from benchmarks import timing
from benchmarks.eigenvalues import EIGHTH_STEP, EVERY_STEP, MEASURED, PLAIN, exactness
from benchmarks.timing import Row
from phenodl import sweep, training
from phenodl.data import images
from phenodl.models import cnn
from phenodl.optim import adam
from phenodl.protocol import Data, Layout, Problem

ROWS = [
    Row(PLAIN, PLAIN),
    Row("+ λ_grad (B)", PLAIN, "≤ 2"),
    Row("+ B and C", PLAIN),
    Row(EVERY_STEP, PLAIN),
    Row(EIGHTH_STEP, PLAIN, "≤ 6"),
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
CHUNK = 40  # a multiple of all cadences


def report(quick: bool) -> Iterator[str]:
    """The table of costs, the share of exact eigenvalues, and the table of convolutions."""
    rounds = 3 if quick else 11
    try:
        data = images.digits(50)
    except ModuleNotFoundError as error:
        yield f"Not measured: {error}."
        return
    problem, runs = cnn.problem(*data), seeds(8)
    sides = timing.engines(
        problem, METHOD, runs, MEASURED, chunk=CHUNK, rounds=rounds, layout=LAYOUT
    )
    yield from timing.table(timing.interleave(sides, rounds), ROWS, "ms")
    yield ""
    yield from exactness(problem, METHOD, seeds(4), steps=300 if quick else 700, layout=LAYOUT)
    yield ""

    problems = {name: cnn.problem(*data, convolution=way) for name, way in CONVOLUTIONS.items()} | {
        IMAGES_FIRST: images_first(*data)
    }
    sides = {
        name: timing.engine(each, METHOD, runs, chunk=CHUNK, rounds=rounds, layout=LAYOUT)
        for name, each in problems.items()
    }
    yield from timing.table(timing.interleave(sides, rounds), CONVOLUTION_ROWS, "ms")


def seeds(count: int) -> sweep.Runs:
    """Runs of Adam that differ in their seed."""
    return sweep.product(key=jax.random.key(0), seed=range(count), learning_rate=0.01, b2=0.999)


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
