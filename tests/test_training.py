import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import adam, gradient_descent, quadratic, sine_network

from phenodl import probes, results, sweep, training
from phenodl.compiler import QUICKLY
from phenodl.optim import flow
from phenodl.protocol import Layout, Method, Probe, Problem, StepInfo, Transform

SINE = sine_network()
LOSS = [probes.loss()]
"""One object each: trainings of the same problem and probes share their compiled programs."""


def losses(chunks) -> np.ndarray:
    return np.concatenate([chunk.records[0].values["loss"] for chunk in chunks], axis=1)


def seeds(count: int, **axes) -> sweep.Runs:
    return sweep.product(key=jax.random.key(3), seed=range(count), **axes)


def test_gradient_descent_follows_its_closed_form(x64):
    runs = seeds(1, learning_rate=[0.1, 0.5, 1.5])
    dataset = results.collect(
        training.train(quadratic, gradient_descent, runs, steps=25, probes=LOSS)
    )
    step = np.arange(25)
    for rate in (0.1, 0.5, 1.5):
        expected = 0.5 * (1 - rate) ** (2 * step)
        np.testing.assert_allclose(dataset.loss.sel(learning_rate=rate, seed=0), expected, 1e-12)


def test_adam_follows_the_textbook_recursion(x64):
    """Against Adam written out in NumPy, on a quadratic with a spectrum."""
    spectrum = np.array([3.0, 0.5, 0.01])
    problem = Problem(
        init=lambda key, data, hyper: jnp.ones(3),
        loss=lambda theta, batch: 0.5 * jnp.sum(batch["spectrum"] * theta**2),
        data={"spectrum": spectrum},
    )
    runs = seeds(1, learning_rate=0.05, b2=[0.9, 0.99])
    chunks = training.train(problem, adam, runs, steps=80, probes=LOSS)
    measured = losses(chunks)
    for row, b2 in enumerate((0.9, 0.99)):
        theta, m, v = np.ones(3), np.zeros(3), np.zeros(3)
        for t in range(80):
            np.testing.assert_allclose(measured[row, t], 0.5 * np.sum(spectrum * theta**2), 1e-9)
            g = spectrum * theta
            m, v = 0.9 * m + 0.1 * g, b2 * v + (1 - b2) * g**2
            m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - b2 ** (t + 1))
            theta = theta - 0.05 * m_hat / (np.sqrt(v_hat) + 1e-8)


SPIKING = {"learning_rate": 0.03, "b2": 0.99}
STEPS = 1500


@pytest.fixture(scope="module")
def spiking_losses() -> np.ndarray:
    return losses(training.train(SINE, adam, seeds(20, **SPIKING), steps=STEPS, probes=LOSS))


def test_the_configuration_is_chaotic(spiking_losses):
    """One unit in the last place of one weight changes the loss by its own size in the end."""

    def nudged(key, data, hyper):
        theta = SINE.init(key, data, hyper)
        return theta.at[0].set(jnp.nextafter(theta[0], jnp.inf))

    chunks = training.train(
        SINE._replace(init=nudged), adam, seeds(20, **SPIKING), steps=STEPS, probes=LOSS
    )
    change = np.abs(losses(chunks) / spiking_losses - 1)
    assert np.median(change[:, 0]) < 1e-5
    assert np.median(change[:, -200:].max(axis=1)) > 0.1


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        ([7], {}),
        ([19, 0, 7, 3], {}),
        (range(20), {"chunk": 70}),
        (range(20), {"chunk": STEPS}),
        (range(20), {"devices": 1}),
        ([4, 11], {"devices": 1, "chunk": 333}),
    ],
)
def test_a_run_has_the_same_bits_whatever_else_there_is(spiking_losses, chosen, options):
    if "devices" in options:
        options = options | {"devices": jax.local_devices()[: options["devices"]]}
    runs = seeds(20, **SPIKING).take(list(chosen))
    chunks = training.train(SINE, adam, runs, steps=STEPS, probes=LOSS, **options)
    np.testing.assert_array_equal(losses(chunks), spiking_losses[sorted(chosen)])


def test_a_run_has_the_same_bits_in_a_larger_sweep(spiking_losses):
    runs = seeds(150, **SPIKING)
    chunks = training.train(SINE, adam, runs, steps=300, chunk=150, probes=LOSS)
    np.testing.assert_array_equal(losses(chunks)[:20], spiking_losses[:, :300])


def test_a_diverging_neighbour_and_compaction_change_no_bits(spiking_losses):
    """Half of the runs blow up at once, are dropped, and the rest is packed anew."""
    runs = seeds(20, learning_rate=[0.03, 1e38], b2=0.99)
    chunks = list(training.train(SINE, adam, runs, steps=STEPS, probes=LOSS))
    assert len(chunks[0].id) == 40
    assert len(chunks[-1].id) == 20
    dataset = results.collect(chunks)
    np.testing.assert_array_equal(dataset.loss.sel(learning_rate=0.03), spiking_losses)
    diverged = dataset.sel(learning_rate=1e38, method="nearest")
    assert (diverged.status == training.DIVERGED).all()
    assert (diverged.stopped_at <= 3).all()
    assert np.isnan(diverged.loss[:, 4:]).all()


def test_training_goes_on_from_a_state_as_if_never_interrupted(spiking_losses):
    runs = seeds(20, **SPIKING)
    options = {"steps": STEPS, "probes": LOSS}
    first = next(iter(training.train(SINE, adam, runs, **options)))
    chunks = training.train(SINE, adam, runs, start=first.state(), **options)
    np.testing.assert_array_equal(losses(chunks), spiking_losses[:, first.last_step :])


def test_a_run_that_diverges_is_recorded_at_its_step(x64):
    """θ_t = (-9)^t overflows at a step that the closed form gives."""
    runs = seeds(1, learning_rate=[0.1, 10.0])
    chunks = list(training.train(quadratic, gradient_descent, runs, steps=400, probes=LOSS))
    expected = np.ceil((np.log(2) + np.log(np.finfo(float).max)) / np.log(81))
    dataset = results.collect(chunks)
    assert dataset.status.values.tolist() == [[training.RUNNING, training.DIVERGED]]
    assert dataset.stopped_at.values.tolist() == [[-1, int(expected)]]
    assert np.isfinite(chunks[-1].state().params).all()


def test_stop_ends_each_run_at_its_own_step(x64):
    rates = np.array([0.3, 0.2, 0.1, 0.05, 0.02])
    runs = seeds(1, learning_rate=rates)
    chunks = list(
        training.train(
            quadratic,
            gradient_descent,
            runs,
            steps=2000,
            chunk=50,
            probes=LOSS,
            stop=lambda view: view.objective.loss < 1e-8,
            layout=Layout(width=1),
        )
    )
    expected = np.ceil(np.log(2e-8) / (2 * np.log(1 - rates)))
    dataset = results.collect(chunks)
    np.testing.assert_array_equal(dataset.stopped_at[0], expected)
    assert (dataset.status == training.CONVERGED).all()
    assert [len(chunk.id) for chunk in chunks][:3] == [5, 3, 2]
    assert chunks[-1].last_step < 2000, "training ends when every run has"
    np.testing.assert_allclose(
        chunks[-1].state().params, (1 - rates) ** expected, 1e-9, err_msg="parameters stay there"
    )


def test_probes_measure_at_their_cadence_with_their_own_state(x64):
    def count(state, view):
        return state + 1, {"looks": state + 1, "at": view.step}

    counter = Probe(count, init=lambda key, params: jnp.zeros((), int), every=7)
    maximum = Probe(
        lambda state, view: (
            jnp.maximum(state, view.objective.loss),
            {"highest": jnp.maximum(state, view.objective.loss)},
        ),
        init=lambda key, params: jnp.zeros(()),
        emit="chunk",
    )
    runs = seeds(3, learning_rate=1.9)
    measurements = [probes.loss(), counter, maximum, probes.grad_norm(5)]
    chunks = training.train(
        quadratic, gradient_descent, runs, steps=100, chunk=20, probes=measurements
    )
    dataset = results.collect(chunks)
    np.testing.assert_array_equal(dataset.step_7, np.arange(0, 100, 7))
    np.testing.assert_array_equal(dataset["at"][0], np.arange(0, 100, 7))
    np.testing.assert_array_equal(dataset.looks[2], 1 + np.arange(15))
    np.testing.assert_array_equal(dataset.step_chunk, [34, 69, 99])
    highest = np.maximum.accumulate(dataset.loss.values, axis=1)
    np.testing.assert_array_equal(dataset.highest, highest[:, [34, 69, 99]])
    np.testing.assert_allclose(dataset.grad_norm**2, 2 * dataset.loss[:, ::5], 1e-12)


def test_the_cadence_counts_from_step_zero_wherever_training_starts():
    runs = seeds(2, **SPIKING)
    options = {"steps": 40, "probes": [probes.loss(7), probes.grad_norm(7)]}
    whole = results.collect(training.train(SINE, adam, runs, chunk=14, **options))
    short = training.train(SINE, adam, runs, chunk=21, **(options | {"steps": 17}))
    state = list(short)[-1].state()
    rest = results.collect(training.train(SINE, adam, runs, start=state, chunk=14, **options))
    np.testing.assert_array_equal(rest.step_7, [21, 28, 35])
    np.testing.assert_array_equal(rest.loss, whole.loss.sel(step_7=[21, 28, 35]))


def test_a_sweep_without_axes_is_one_run(x64):
    runs = sweep.product(key=jax.random.key(0), learning_rate=0.5)
    chunks = training.train(quadratic, gradient_descent, runs, steps=5, probes=LOSS)
    np.testing.assert_array_equal(results.collect(chunks).loss, 0.5 * 0.25 ** np.arange(5))


def test_precision_is_that_of_the_call_whoever_draws_the_chunks():
    with jax.enable_x64(True):
        chunks = training.train(
            quadratic,
            gradient_descent,
            seeds(1, learning_rate=0.1),
            steps=9,
            probes=LOSS,
        )
    assert results.collect(chunks).loss.dtype == np.float64


@pytest.mark.parametrize("every", [1, 3])
def test_products_share_the_gradient_of_the_step(x64, every):
    """A probe gets the Hessian at θ_t; the quartic's is known."""
    problem = Problem(
        init=lambda key, data, hyper: jax.random.normal(key, (4,)),
        loss=lambda theta, batch: jnp.sum(theta**4) / 4,
    )

    def curvature(state, view):
        product = view.objective.hvp(jnp.ones(4))
        return state, {"product": product, "exact": 3 * view.params**2}

    runs = seeds(5, learning_rate=0.05)
    chunks = training.train(
        problem,
        gradient_descent,
        runs,
        steps=9,
        probes=[Probe(curvature, every=every, products=True)],
    )
    dataset = results.collect(chunks)
    np.testing.assert_allclose(dataset["product"], dataset.exact, 1e-12)
    assert dataset.exact.shape == (5, -(-9 // every), 4)


def heavy_ball(rate: float) -> Method:
    """Momentum by hand, to put a method that is not optax's through the engine."""

    def step(objective, params, state, hyper):
        state = jax.tree.map(lambda v, g: 0.5 * v - rate * g, state, objective.grads)
        moved = jax.tree.map(jnp.add, params, state)
        return moved, state, StepInfo(state, jnp.full((), rate))

    return Method(lambda params, hyper: jax.tree.map(jnp.zeros_like, params), step)


METHODS = {
    "heavy ball": heavy_ball(0.1),
    "rk4": flow.rk4(lambda objective, params, hyper: 0.3 * hyper["scale"] ** 0),
    "adam": training.from_optax(lambda hyper: optax.adam(0.1)),
}


@pytest.mark.parametrize("name", METHODS)
def test_runs_along_the_last_axis_give_the_same_numbers(x64, name):
    """The same formulas, written for (d,) and (d, runs) alike, in both layouts."""
    problem = Problem(
        init=lambda key, data, hyper: hyper["scale"] * jax.random.normal(key, (3,)),
        loss=lambda theta, batch: 0.5 * ((theta - batch["target"]) ** 2).sum(0),
    )
    instance = {"target": np.arange(12.0).reshape(4, 3)}
    runs = seeds(3, scale=[1.0, 10.0], instance=instance)
    measured = []
    for shape in ({"run_axis": 0, "width": 4}, {"run_axis": -1, "width": 16}):
        layout = Layout(**shape, compiler_options=QUICKLY)
        measurements = [
            probes.loss(),
            probes.value("theta", lambda view: view.params, emit="chunk"),
            probes.grad_norm(),
        ]
        chunks = training.train(
            problem,
            METHODS[name],
            runs,
            steps=900,
            probes=measurements,
            stop=lambda view: view.objective.loss < 1e-3,
            layout=layout,
        )
        measured.append(results.collect(chunks))
    assert measured[0].loss.dims == ("seed", "scale", "instance", "step")
    assert measured[0].theta.sizes["theta_0"] == 3
    assert (measured[0].status == training.CONVERGED).all()
    np.testing.assert_array_equal(measured[0].stopped_at, measured[1].stopped_at)
    for name in ("loss", "theta", "grad_norm"):
        np.testing.assert_allclose(measured[0][name], measured[1][name], 1e-12, 1e-15)
    target = np.broadcast_to(instance["target"], (3, 2, 4, 3))
    np.testing.assert_allclose(results.final(measured[0].theta), target, atol=0.1)


def test_what_mixes_the_runs_of_a_block_is_refused():
    total = probes.value("total", lambda view: view.objective.loss.sum())
    options = {"steps": 3, "probes": [total], "layout": Layout(run_axis=-1)}
    with pytest.raises(ValueError, match="it mixes them"):
        training.train(quadratic, gradient_descent, seeds(2, learning_rate=0.1), **options)


def test_transforms_are_applied_every_few_steps(x64):
    """Turning the plane by a right angle three times leaves a trace that four turns do not."""
    turn = Transform(every=10, apply=lambda theta, batch: jnp.stack([-theta[1], theta[0]]))
    problem = Problem(
        init=lambda key, data, hyper: jnp.array([1.0, 0.0]),
        loss=lambda theta, batch: 0.5 * jnp.sum(theta**2),
    )
    for steps, direction in ((39, [0, -1]), (40, [1, 0])):
        chunks = list(
            training.train(
                problem,
                gradient_descent,
                seeds(1, learning_rate=0.01),
                steps=steps,
                transforms=[turn],
            )
        )
        expected = 0.99**steps * np.array(direction)
        np.testing.assert_allclose(chunks[-1].state().params[0], expected, atol=1e-14)


def test_mini_batches_depend_on_the_run_and_the_step_alone():
    problem = Problem(
        init=lambda key, data, hyper: jnp.ones(()),
        loss=lambda theta, batch: theta * batch,
        batch=lambda data, key, step: jax.random.uniform(key),
    )
    runs = seeds(10, learning_rate=0.0)
    probe = [probes.value("sample", lambda view: view.batch)]

    def samples(runs, **options):
        chunks = training.train(problem, gradient_descent, runs, steps=40, probes=probe, **options)
        return np.concatenate([chunk.records[0].values["sample"] for chunk in chunks], axis=1)

    whole = samples(runs)
    assert np.unique(whole).size == 400
    np.testing.assert_array_equal(samples(runs.take([6]), chunk=8), whole[6:7])


def test_more_runs_and_other_values_compile_nothing_new():
    traces = []

    def traced_loss(params, batch):
        traces.append(1)
        return SINE.loss(params, batch)

    counted = SINE._replace(loss=traced_loss)
    cadences = {every: [probes.loss(every)] for every in (1, 5)}

    def new_traces(runs, every):
        """Traces of the loss beyond the abstract evaluation that every training begins with."""
        traces.clear()
        for _ in training.train(counted, adam, runs, probes=cadences[every], steps=40, chunk=10):
            pass
        return len(traces) - abstract

    abstract = 0
    compiling = new_traces(seeds(3, **SPIKING), 1)
    abstract = new_traces(seeds(3, **SPIKING), 1)
    assert compiling > abstract
    assert new_traces(seeds(200, **SPIKING), 1) == 0
    assert new_traces(seeds(2, learning_rate=[0.1, 0.2, 0.3], b2=0.9), 1) == 0
    assert new_traces(seeds(3, **SPIKING), 5) == compiling - abstract
    assert new_traces(seeds(9, **SPIKING), 5) == 0


def test_a_flax_linen_and_a_flax_nnx_model_train_like_any_pytree():
    x = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]

    class Linen(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            return flax.linen.Dense(1)(jnp.tanh(flax.linen.Dense(8)(x)))

    class Nnx(flax.nnx.Module):
        def __init__(self, rngs):
            self.inner = flax.nnx.Linear(1, 8, rngs=rngs)
            self.outer = flax.nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.outer(jnp.tanh(self.inner(x)))

    linen = Linen()
    graph = flax.nnx.graphdef(Nnx(flax.nnx.Rngs(0)))

    def nnx_init(key, data, hyper):
        return flax.nnx.state(Nnx(flax.nnx.Rngs(key)))

    def mse(prediction, batch):
        return jnp.mean((prediction - batch["y"]) ** 2)

    models = [
        (
            lambda key, data, hyper: linen.init(key, data["x"]),
            lambda p, batch: mse(linen.apply(p, batch["x"]), batch),
        ),
        (nnx_init, lambda p, batch: mse(flax.nnx.merge(graph, p)(batch["x"]), batch)),
    ]
    for init, loss in models:
        problem = Problem(init, loss, data={"x": x, "y": np.sin(3 * x)})
        runs = seeds(3, learning_rate=0.02, b2=0.99)
        history = losses(
            training.train(
                problem,
                adam,
                runs,
                steps=150,
                probes=LOSS,
                layout=Layout(compiler_options=QUICKLY),
            )
        )
        assert (history[:, -1] < 0.1 * history[:, 0]).all()


def test_memory_bounds_the_blocks_of_one_call(spiking_losses):
    small = Layout(memory=1)
    chunks = training.train(SINE, adam, seeds(20, **SPIKING), steps=20, probes=LOSS, layout=small)
    np.testing.assert_allclose(losses(chunks), spiking_losses[:, :20], 1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1 and below"),
        ({"steps": 5, "chunk": -1}, "chunk must be at least 1"),
        ({"steps": 5, "layout": Layout(width=0)}, "width must be at least 1"),
        ({"steps": 5, "probes": [probes.loss(0)]}, "every must be at least 1"),
        ({"steps": 5, "probes": [probes.loss(), probes.loss(2)]}, "two probes record 'loss'"),
        ({"steps": 2**31}, "steps must be at least 1 and below"),
        ({"steps": 5, "layout": Layout(run_axis=1)}, "run_axis must be 0 or -1"),
        ({"steps": 5, "probes": [probes.value("status", lambda view: view.step)]}, "'status'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        training.train(SINE, adam, seeds(2, **SPIKING), **options)


def test_runs_at_different_steps_cannot_go_on_together():
    runs = seeds(2, **SPIKING)
    state = next(iter(training.train(SINE, adam, runs, steps=10))).state()
    state.step[0] = 0
    with pytest.raises(ValueError, match=r"different steps: \[0, 1\]"):
        training.train(SINE, adam, runs, steps=10, start=state)


def test_a_state_of_other_probes_cannot_go_on():
    runs = seeds(2, **SPIKING)
    state = next(training.train(SINE, adam, runs, steps=10)).state()
    with pytest.raises(ValueError, match=r"start.probes does not fit"):
        training.train(SINE, adam, runs, steps=10, start=state, probes=LOSS)


def test_optax_schedules_and_weight_decay_need_nothing_special(x64):
    """AdamW's decay on a flat loss: θ shrinks by 1 - η_t w, with η_t from a schedule."""
    method = training.from_optax(
        lambda hyper: optax.adamw(
            lambda count: 0.1 * (1 - count.astype(float) / 10), weight_decay=hyper["weight_decay"]
        )
    )
    flat = Problem(lambda key, data, hyper: jnp.ones(()), lambda theta, batch: 0.0 * theta)
    runs = seeds(1, weight_decay=[0.5, 2.0])
    chunks = list(training.train(flat, method, runs, steps=10))
    rates = 0.1 * (1 - np.arange(10) / 10)
    expected = [np.prod(1 - rates * decay) for decay in (0.5, 2.0)]
    np.testing.assert_allclose(chunks[-1].state().params, expected, 1e-12)
