import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl import sweep, training
from phenodl.curvature import quadratic_form
from phenodl.footprint import Footprint, describe, flops, footprint
from phenodl.microbatch import accumulate
from phenodl.optim import adam
from phenodl.protocol import Layout, Probe, Problem
from phenodl.spikes import curvatures

WIDTH, DEPTH, EXAMPLES = 64, 3, 512
SQUARE = DEPTH * WIDTH**2
METHOD = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())


def network(params, batch):
    hidden = batch["inputs"]
    for weights in params:
        hidden = jnp.tanh(hidden @ weights)
    return (hidden**2).mean()


def draw(key, data, hyper):
    return list(jax.random.normal(key, (DEPTH, WIDTH, WIDTH)) / 8)


def batch():
    return {"inputs": jnp.zeros((EXAMPLES, WIDTH))}


def runs(seeds=1):
    return sweep.product(key=jax.random.key(0), seed=range(seeds), learning_rate=1e-3)


PROBLEM = Problem(draw, network, data={"inputs": np.zeros((EXAMPLES, WIDTH), np.float32)})


def test_work_is_that_counted_by_hand():
    params = draw(jax.random.key(0), None, None)
    forward = 2 * SQUARE * EXAMPLES
    assert flops(network, params, batch()) == forward
    # A gradient takes two products per layer more, but no derivative by the inputs.
    gradient = 3 * forward - 2 * WIDTH**2 * EXAMPLES
    assert flops(jax.grad(network), params, batch()) == gradient
    assert flops(accumulate(network, 8, remat=False), params, batch()) == forward
    # Computing the activations again costs another forward pass.
    micro = jax.grad(accumulate(network, 8))
    assert flops(micro, params, batch()) - gradient in (forward, forward - 2 * WIDTH**2 * EXAMPLES)
    # A value, two tangents of two products each, and three products for the second derivative,
    # of which the first layer, whose inputs have no tangent, saves five.
    form = lambda params, batch: quadratic_form(lambda p: network(p, batch), params, params)
    assert flops(form, params, batch()) == 8 * forward - 5 * 2 * WIDTH**2 * EXAMPLES


def test_work_agrees_with_the_compiler_where_it_can_tell():
    params = draw(jax.random.key(0), None, None)
    step = lambda params: jax.value_and_grad(network)(params, batch())
    compiled = jax.jit(jax.value_and_grad(network)).lower(params, batch()).compile()
    assert flops(step, params) == pytest.approx(compiled.cost_analysis()["flops"], rel=0.03)

    images, kernels = jnp.zeros((4, 12, 12, 6)), jnp.zeros((3, 3, 2, 9))

    def convolve(images, kernels):
        axes = ("NHWC", "HWIO", "NHWC")
        how = {"dimension_numbers": axes, "feature_group_count": 3}
        return jax.lax.conv_general_dilated(images, kernels, (2, 1), "VALID", **how)

    compiled = jax.jit(convolve).lower(images, kernels).compile()
    assert flops(convolve, images, kernels) == compiled.cost_analysis()["flops"]


def test_memory_and_work_of_a_training():
    layout = Layout(width=2)
    remember = lambda state, view: (view.params, {"loss": view.objective.loss})
    last = Probe(remember, init=lambda key, params: params)
    measured = [curvatures.gradient_probe(which=["curvature_b"]), last]
    need = footprint(PROBLEM, METHOD, runs(4), probes=measured, layout=layout)
    params = 4 * SQUARE * layout.width
    assert (need.parameters, need.runs, need.params) == (SQUARE, 2, params)
    assert need.method == 2 * params + 4 * layout.width
    assert need.probes == params
    assert need.data == 4 * EXAMPLES * WIDTH
    activations = 4 * DEPTH * EXAMPLES * WIDTH * layout.width
    assert need.workspace > params + activations
    assert need.measuring > 0
    states = 2 * (need.params + need.method + need.probes)
    rest = need.peak - states - need.data - need.workspace - need.measuring
    assert 0 <= rest < 4000  # keys, hyper-parameters, records

    point = draw(jax.random.key(0), None, None)
    assert need.flops == 2 * flops(jax.grad(network), point, batch())
    form = lambda params: quadratic_form(lambda p: network(p, batch()), params, params)
    assert need.measuring_flops == pytest.approx(2 * flops(form, point), rel=0.01)


def test_nothing_is_allocated():
    """A terabyte of parameters is judged on any machine."""
    rows = 2**34
    problem = Problem(lambda key, data, hyper: jnp.zeros((16, rows)), lambda x, _: (x**2).sum())
    need = footprint(problem, METHOD, runs())
    assert need.parameters == 16 * rows
    assert need.peak >= 5 * 4 * need.parameters
    assert describe(need)[0].startswith("memory: ")


@pytest.mark.parametrize(
    ("runs_at_once", "said"), [(1, "(1.5 MiB), optimizer"), (8, "(1.5 MiB, 8 runs at a time),")]
)
def test_description(runs_at_once, said):
    need = Footprint(12288, runs_at_once, 3 * 2**19, 0, 0, 0, 0, 0, 2**30, 33_554_432, 0)
    memory, work = describe(need)
    assert memory.startswith("memory: 1 GiB in all for 12,288 parameters")
    assert said in memory
    assert work == "work: 33.6 MFLOP per step, 0 FLOP more where all probes measure"
