"""Maps of spikes: the reducer agrees with the detector, the sized network with a plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import phenodl
from experiments.spikes.measurements import ADAM
from experiments.spikes.sweep import figures, run
from experiments.spikes.sweep.config import POINTS, Config
from experiments.spikes.sweep.measure import sized_loss, sized_problem, spikes_probe, units
from phenodl import probes, sweep, training
from phenodl.compiler import QUICKLY
from phenodl.data.functions import sine_mixture
from phenodl.models import mlp
from phenodl.protocol import Layout
from phenodl.spikes import detect

SEEDS = 8


def test_the_reducer_counts_what_the_detector_finds():
    runs = sweep.product(
        key=jax.random.key(0), seed=range(1000, 1002), learning_rate=0.05, b2=[0.98, 0.99]
    )
    found = phenodl.collect(
        training.train(
            run._problem(20, 1),
            ADAM,
            runs,
            steps=600,
            probes=[probes.loss(), spikes_probe(detect.ring_down(0.9), 0.1)],
            layout=Layout(compiler_options=QUICKLY),
        )
    )
    losses = found.loss.transpose("seed", "b2", "step").values.reshape(-1, 600)
    spikes, _ = jax.jit(jax.vmap(lambda row: detect.detect(row, rise=0.1)))(jnp.asarray(losses))
    measured = {
        name: found[name].transpose("seed", "b2", ...).values.reshape(-1)
        for name in ("spikes", "highest", "lowest")
    }
    assert spikes.count.max() > 0
    np.testing.assert_array_equal(measured["spikes"], spikes.count)
    highest = np.nanmax(np.nan_to_num(spikes.height, nan=0), axis=1)
    np.testing.assert_allclose(measured["highest"], highest, rtol=1e-6)
    np.testing.assert_array_equal(measured["lowest"], losses.min(axis=1))


def test_a_sized_network_is_a_smaller_one():
    problem, small = sized_problem(10), mlp.problem(*sine_mixture(POINTS), hidden=[4])
    data = {
        **problem.data,
        "units": jnp.asarray(units(np.array([4]), 10)[0]),
        "batch_size": jnp.asarray(POINTS),
    }
    params = jax.jit(lambda: problem.init(jax.random.key(0), data, {}))()
    bound = np.abs(params["layer_1"]["weight"]).max()
    assert 1 / np.sqrt(10) < bound <= 1 / np.sqrt(4)
    cut = {
        "layer_0": jax.tree.map(lambda leaf: leaf[:4], params["layer_0"]),
        "layer_1": {**params["layer_1"], "weight": params["layer_1"]["weight"][:, :4]},
    }

    @jax.jit
    def derivatives(params):
        batch = problem.batch(data, jax.random.key(1), jnp.asarray(0))
        return jax.value_and_grad(problem.loss)(params, batch)

    loss, grads = derivatives(params)
    np.testing.assert_allclose(loss, jax.jit(small.loss)(cut, small.data), rtol=1e-6)
    assert not grads["layer_0"]["weight"][4:].any()
    assert not grads["layer_1"]["weight"][:, 4:].any()


def test_a_batch_holds_its_number_of_points_and_is_drawn_anew():
    problem = sized_problem(3)
    data = {**problem.data, "units": jnp.ones(3), "batch_size": jnp.asarray(7)}
    draw = jax.jit(lambda key: problem.batch(data, key, jnp.asarray(0))["chosen"])
    batches = [np.asarray(draw(jax.random.key(number))) for number in range(2)]
    assert [float(chosen.sum()) for chosen in batches] == [7, 7]
    assert (batches[0] != batches[1]).any()
    params = jax.jit(lambda: problem.init(jax.random.key(0), data, {}))()
    errors = (np.asarray(jax.jit(mlp.apply)(params, data["inputs"])) - data["targets"]) ** 2
    expected = errors[0][batches[0] == 1].mean()
    measured = jax.jit(sized_loss)(params, {**data, "chosen": batches[0]})
    np.testing.assert_allclose(measured, expected, rtol=1e-6)


def made_up(config, sign=1):
    """Numbers and heights that rise, or fall, along every axis."""

    def runs(**axes):
        shape = SEEDS, *map(len, axes.values())
        rank = sum(np.indices(shape[1:])) + np.zeros(shape)
        names = ("spikes", "highest", "lowest")
        return xr.Dataset(
            dict.fromkeys(names, (("seed", *axes), 20.0 + sign * rank)),
            {"seed": np.arange(SEEDS), **{name: list(axis) for name, axis in axes.items()}},
        )

    size = range(len(config.batches) + len(config.widths))
    found = {
        "rates": runs(learning_rate=config.learning_rates, b2=config.b2s),
        "moments": runs(b1=config.b1s, eps=config.epsilons),
        "sizes": runs(size=size),
    }
    single = runs(none=[0]).isel(none=0, drop=True)
    for depth in config.depths:
        found[run._depth_name(depth)] = single + sign * depth
    return found


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "fails")])
def test_trends_are_claimed_as_they_were_made(sign, verdict):
    config = Config(seeds=SEEDS)
    analysis = run.analyze(config, made_up(config, sign))
    claims = {claim.id.split("/")[1]: claim for claim in analysis.claims}
    for name in ("learning-rate", "width", "depth"):
        assert claims[name].verdict == verdict
        assert claims[name].measured == pytest.approx(sign)
    assert claims["epsilon"].measured == pytest.approx(sign)
    assert claims["batch"].measured == sign * (len(config.batches) - 1)
    for figure in analysis.figures.values():
        figure.draw_without_rendering()
    assert {row["axis"] for row in analysis.tables["axes"]} == set(figures.LABELS)


def test_a_measurement_that_does_not_change_has_no_trend():
    config = Config(seeds=SEEDS)
    rates = made_up(config)["rates"].isel(b2=0)
    assert (run.trends(rates * 0, "spikes") == 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("b2s", (0.9, 1.0)),
        ("epsilons", (0.0,)),
        ("learning_rates", ()),
        ("batches", (0, 100)),
        ("batches", (101,)),
        ("widths", (0,)),
        ("depths", ()),
        ("learning_rates", (0.01, 0.01)),
        ("learning_rates", (0.02, 0.05)),
        ("b2s", (0.999, 0.99, 0.9)),
        ("b2s", (0.9, 0.999)),
        ("batches", (25, 50)),
        ("widths", (5, 10)),
    ],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})
