import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.curvature import bilinear_form, linearize
from phenodl.microbatch import accumulate, micro_batches

RNG = np.random.default_rng(0)
EXAMPLES, WIDTH, DEPTH = 512, 32, 5


def network(params, batch):
    hidden = batch["inputs"]
    for weights in params:
        hidden = jnp.tanh(hidden @ weights)
    return ((hidden - batch["targets"]) ** 2).mean()


def draw(dtype):
    scale = WIDTH**-0.5
    params = [(scale * RNG.normal(size=(WIDTH, WIDTH))).astype(dtype) for _ in range(DEPTH)]
    shape = (EXAMPLES, WIDTH)
    batch = {name: RNG.normal(size=shape).astype(dtype) for name in ("inputs", "targets")}
    return params, batch


def derivatives(loss):
    def gradient(params, batch, tangent):
        return jax.grad(loss)(params, batch)

    def products(params, batch, tangent):
        value, grads, hvp = linearize(lambda params: loss(params, batch), params)
        return value, grads, hvp(hvp(tangent))

    def form(params, batch, tangent):
        return bilinear_form(lambda params: loss(params, batch), params, tangent, tangent)

    return {"gradient": gradient, "products": products, "form": form}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("remat", [True, False])
def test_derivatives_of_every_order_are_those_of_the_whole_batch(remat):
    params, batch = draw(np.float64)
    tangent = draw(np.float64)[0]
    whole, micro = derivatives(network), derivatives(accumulate(network, 8, remat=remat))
    for name in whole:
        expected = jax.jit(whole[name])(params, batch, tangent)
        measured = jax.jit(micro[name])(params, batch, tangent)
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)
        jax.tree.map(close, measured, expected)


def workspace(function):
    params, batch = draw(np.float32)
    compiled = jax.jit(function).lower(params, batch, params).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", ["gradient", "products", "form"])
def test_memory_is_that_of_one_micro_batch(name):
    activations = EXAMPLES * WIDTH * 4
    parameters = DEPTH * WIDTH * WIDTH * 4
    whole = workspace(derivatives(network)[name])
    assert whole > DEPTH * activations or name == "form"
    for parts in (4, 16):
        micro = workspace(derivatives(accumulate(network, parts))[name])
        # What does not shrink with the micro-batch has the parameters' size: sums of gradients.
        assert micro < 1.1 * whole / parts + 8 * parameters
    kept = workspace(derivatives(accumulate(network, 16, remat=False))[name])
    assert (kept > 0.9 * whole) == (name != "form")


def test_a_batch_that_cannot_be_divided_is_named():
    batch = {"inputs": np.zeros((12, 2)), "targets": np.zeros(12)}
    with pytest.raises(ValueError, match="parts must divide the batch of 12, got 5"):
        accumulate(lambda params, batch: params, 5)(1.0, batch)
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        accumulate(network, 0)
    for other, found in ((np.zeros(6), "12, 6"), (np.zeros(()), "12, none")):
        with pytest.raises(ValueError, match=f"one leading axis in common; found {found}"):
            micro_batches(batch | {"targets": other}, 2)


def test_micro_batches_are_consecutive_examples():
    batch = {"x": np.arange(12).reshape(6, 2)}
    np.testing.assert_array_equal(micro_batches(batch, 3)["x"][1], [[4, 5], [6, 7]])
