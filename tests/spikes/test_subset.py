import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import phenodl
from phenodl import sweep, training
from phenodl.footprint import flops
from phenodl.optim import adam
from phenodl.protocol import Objective, Problem, View
from phenodl.spikes import curvatures
from phenodl.spikes.subset import subset_probe

EXAMPLES = 256
RNG = np.random.default_rng(0)
BATCH = {"inputs": RNG.normal(size=(EXAMPLES, 4)), "targets": RNG.normal(size=(EXAMPLES, 2))}
HYPER = {"learning_rate": 0.01, "b2": 0.99}
WHICH = ("lambda_grad", "curvature_a", "curvature_b", "curvature_c")


def network(params, batch):
    hidden = jnp.tanh(batch["inputs"] @ params[0])
    return ((hidden @ params[1] - batch["targets"]) ** 2).mean()


def draw(key, data, hyper):
    first, second = jax.random.split(key)
    return [jax.random.normal(first, (4, 6)), jax.random.normal(second, (6, 2))]


def state_of_adam(params, batch):
    """Two gradients into Adam, so that g, m and D point in different directions."""
    tx = adam.from_hyper(HYPER).transformation()
    grads, state = jax.grad(network)(params, batch), tx.init(params)
    with jax.numpy_dtype_promotion("standard"):
        _, state = tx.update(jax.tree.map(jnp.cos, grads), state, params)
        update, state = tx.update(grads, state, params)
    return grads, state, update


def measured(probe, seeds, params, batch):
    """The probe's values in one step, once per seed."""

    def once(seed):
        grads, state, update = state_of_adam(params, batch)
        objective = Objective(lambda params: network(params, batch), jnp.zeros(()), grads)
        zero = jnp.zeros((), jnp.int32)
        view = View(objective, params, state, update, batch, zero, jnp.zeros(()), HYPER)
        return probe.measure(seed, view)[1]

    return jax.jit(jax.vmap(once))(seeds)


@pytest.mark.usefixtures("x64")
def test_all_parts_give_the_whole_batch_without_error():
    params = draw(jax.random.key(0), None, None)
    seed = jnp.zeros(1, jnp.uint32)
    whole = measured(curvatures.gradient_probe(which=WHICH), seed, params, BATCH)
    parts = measured(subset_probe(network, WHICH, parts=16, used=16), seed, params, BATCH)
    for name in WHICH:
        np.testing.assert_allclose(parts[f"{name}_subset"], whole[name], rtol=1e-12)
        assert parts[f"{name}_subset_error"] == 0


@pytest.mark.usefixtures("x64")
def test_the_mean_is_unbiased_and_the_interval_covers():
    params, draws, used = draw(jax.random.key(1), None, None), 2000, 6
    seeds = jax.random.bits(jax.random.key(2), (draws,))
    probe = subset_probe(network, WHICH, parts=32, used=used)
    whole = measured(curvatures.gradient_probe(which=WHICH), seeds[:1], params, BATCH)
    few = {name: np.asarray(value) for name, value in measured(probe, seeds, params, BATCH).items()}
    for name in WHICH:
        mean, error = few[f"{name}_subset"], few[f"{name}_subset_error"]
        deviation = mean - float(whole[name][0])
        assert abs(deviation.mean()) < 4 * deviation.std() / draws**0.5
        # The squared error is the unbiased estimate of the mean's variance.
        assert (error**2).mean() == pytest.approx(deviation.var(), rel=0.15)
        covered = np.abs(deviation) <= stats.t.ppf(0.975, used - 1) * error
        low, high = stats.binom.ppf([1e-3, 1 - 1e-3], draws, 0.95) / draws
        assert low - 0.01 <= covered.mean() <= high + 0.01


@pytest.mark.usefixtures("x64")
def test_cost_is_that_of_the_micro_batches_used():
    params, seed = draw(jax.random.key(0), None, None), jnp.zeros(1, jnp.uint32)

    def cost(probe):
        return flops(lambda seeds: measured(probe, seeds, params, BATCH), seed)

    two, four, eight, all_parts = (
        cost(subset_probe(network, parts=32, used=used)) for used in (2, 4, 8, 32)
    )
    per_part = (four - two) / 2
    assert (eight - four, all_parts - two) == (4 * per_part, 30 * per_part)
    gradient = flops(lambda seed: state_of_adam(params, BATCH), seed)
    whole = cost(curvatures.gradient_probe(which=["curvature_b"])) - gradient
    norm = 2 * 36  # gᵀ D g over the 36 parameters, in every part anew
    assert 32 * (per_part - norm) == whole - norm


def test_each_step_draws_anew_and_runs_draw_apart():
    problem = Problem(draw, network, data={k: v.astype(np.float32) for k, v in BATCH.items()})
    method = training.from_optax(lambda hyper: adam.from_hyper(hyper).transformation())
    runs = sweep.product(key=jax.random.key(0), seed=range(2), learning_rate=1e-9)
    probes = [
        curvatures.gradient_probe(which=["curvature_b"]),
        subset_probe(network, parts=8, used=2),
    ]
    results = phenodl.collect(training.train(problem, method, runs, steps=40, probes=probes))
    ratio = results.curvature_b_subset / results.curvature_b
    assert np.unique(ratio).size > 30
    assert (ratio.isel(seed=0) != ratio.isel(seed=1)).sum() > 30
    assert (results.curvature_b_subset_error > 0).all()


@pytest.mark.parametrize("used", [1, 9])
def test_too_few_or_too_many_parts_are_refused(used):
    with pytest.raises(ValueError, match=f"used must be from 2 to parts, 8, got {used}"):
        subset_probe(network, parts=8, used=used)
