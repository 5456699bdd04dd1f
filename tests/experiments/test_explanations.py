"""Loss spikes and their explanations: counterfactual eigenvalues, branches, what is claimed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recorders import InMemory

from experiments.config import Adam
from experiments.spikes.branches import Approaches, approaches
from experiments.spikes.explanations import ledger, run
from experiments.spikes.explanations.config import EXPERIMENT, Config, Network
from experiments.spikes.explanations.counterfactual import NAMES, eigenvalues_probe
from experiments.spikes.explanations.outcome import Growth
from phenodl.optim import adam
from phenodl.protocol import Objective, View
from phenodl.spikes.detect import Spikes

# A memory this short brings the first spikes within a few hundred steps.
QUICK = Config(
    seeds=2,
    first_seed=1000,
    sine=Network(steps=420, optimizer=Adam(learning_rate=0.05, b2=0.98)),
    every=5,
    products=3,
)


@pytest.fixture(scope="module")
def trained():
    recorder = InMemory()
    with jax.enable_x64(True):
        run.train(QUICK, recorder)
    return recorder.results


@pytest.mark.usefixtures("x64")
def test_arms_are_their_control_until_they_part(trained):
    control, arms = trained["sine-control"], trained["sine-arms"]
    found = run.find_approaches(QUICK, "sine", control).highest()
    np.testing.assert_array_equal(arms.loss.isel(arm=0), control.loss.isel(arm=0))
    assert (found.trough >= 0).any()
    for seed in np.flatnonzero(found.trough >= 0):
        until = found.trough[seed] + 2  # D_s differs first, and θ one step later
        losses = arms.loss.isel(seed=seed).transpose("arm", "step").values
        for arm in (1, 2):
            np.testing.assert_array_equal(losses[arm, :until], losses[0, :until])
            assert (losses[arm, until:] != losses[0, until:]).any()


@pytest.mark.usefixtures("x64")
def test_kept_factors_agree_with_the_present_ones_at_the_trough_alone(trained):
    control, arms = trained["sine-control"], trained["sine-arms"].isel(arm=0)
    found = run.find_approaches(QUICK, "sine", control)
    now = arms.lambda_max_adam.transpose("seed", ...).values
    for name in ("lambda_diagonal_kept", "lambda_hessian_kept"):
        kept = arms[name].transpose("seed", ...).values
        for seed, spike in np.argwhere(found.trigger >= 0):
            trough, crossing = (
                column[seed, spike] // QUICK.every for column in (found.trough, found.crossing)
            )
            assert kept[seed, trough] == pytest.approx(now[seed, trough], rel=1e-9)
            assert kept[seed, crossing] != pytest.approx(now[seed, crossing], rel=1e-3)


@pytest.mark.usefixtures("x64")
def test_the_analysis_claims_and_draws_for_each_network(trained):
    analysis = run.analyze(QUICK, trained)
    keys = {claim.id.removeprefix("spikes-explanations/sine-") for claim in analysis.claims}
    assert {"sharpness", "frozen", "decaying", "delay", "prediction"} <= keys
    for figure in analysis.figures.values():
        figure.draw_without_rendering()
    for row in analysis.tables["growth"]:
        if row["number"]:
            assert row["growth"] > 0


@pytest.mark.usefixtures("x64")
def test_eigenvalues_are_those_of_dense_matrices():
    """On x^4 / 4 with coupling, whose Hessian is written down here."""
    rng = np.random.default_rng(0)
    coupling = rng.normal(size=(5, 5))
    coupling = coupling @ coupling.T

    def loss(x):
        return jnp.sum(x**4) / 4 + x @ jnp.asarray(coupling) @ x / 2

    def hessian(x):
        return np.diag(3 * x**2) + coupling

    hyper = {"learning_rate": jnp.asarray(0.1), "b1": jnp.asarray(0.9), "b2": jnp.asarray(0.99)}
    tx = adam.from_hyper(hyper).transformation()
    probe = eigenvalues_probe(products=5, every=1)
    x = jnp.asarray(rng.normal(size=5))

    def one_step(carry, step):
        x, state, opt = carry
        grads = jax.grad(loss)(x)
        with jax.numpy_dtype_promotion("standard"):
            update, opt = tx.update(grads, opt, x)
        view = View(
            objective=Objective(loss, loss(x), grads),
            params=x,
            method_state=opt,
            update=update,
            batch={"anchors": jnp.array([1, -1])},
            step=step,
            time=jnp.zeros(()),
            hyper=hyper,
        )
        state, values = probe.measure(state, view)
        seen = x, adam.preconditioner(opt, b2=0.99), values
        return (optax.apply_updates(x, update), state, opt), seen

    @jax.jit
    def train(x):
        carry = x, probe.init(jax.random.key(0), x), tx.init(x)
        return jax.lax.scan(one_step, carry, jnp.arange(4))[1]

    points, diagonals, measured = jax.tree.map(np.asarray, train(x))
    for step, (point, diagonal) in enumerate(zip(points, diagonals, strict=True)):
        anchor = min(step, 1)
        kept, kept_diagonal = points[anchor], diagonals[anchor]
        factor = 0.1 / 1.9 / (1 - 0.9 ** (step + 1))
        pairs = ((point, diagonal), (point, None), (point, kept_diagonal), (kept, diagonal))
        for name, (at, scale) in zip(NAMES, pairs, strict=True):
            matrix = hessian(at) if scale is None else factor * scale[:, None] * hessian(at)
            expected = np.linalg.eigvals(matrix).real.max()
            assert measured[name][step] == pytest.approx(expected, rel=1e-8), (step, name)


def spikes(trigger, end):
    trigger, end = jnp.array([trigger]), jnp.array([end])
    height = jnp.where(trigger < 0, jnp.nan, 1.0 + jnp.arange(trigger.size, dtype=float))
    return Spikes((trigger >= 0).sum(axis=1), trigger, trigger, end, height)


def test_an_approach_goes_from_the_lowest_curvature_to_the_alarm():
    ratio = np.full((1, 100), 0.8)
    ratio[0, 30:41] = np.linspace(0.5, 1.2, 11)  # steps 150 to 200, above 1 from 190 on
    found = approaches(ratio, 5, spikes([205, 400, -1], [240, 430, -1]))
    assert found.trough[0].tolist() == [150, -1, -1]  # no alarm before the second spike
    assert found.crossing[0].tolist() == [190, -1, -1]
    assert found.trigger[0].tolist() == [205, -1, -1]
    assert found.highest().trough.tolist() == [150]


def test_no_approach_begins_inside_the_last_spike():
    ratio = np.full((1, 100), 0.8)
    ratio[0, 40:44] = 1.1
    found = approaches(ratio, 5, spikes([205, 225], [212, -1]))
    assert found.trigger[0].tolist() == [205, -1]
    assert isinstance(found, Approaches)


def test_growth_of_a_moving_preconditioner_is_owed_to_it():
    ones = np.ones(6)
    growth = Growth(
        seed=np.repeat([0, 1, 2], 2),
        first=np.tile([True, False], 3),
        total=ones,
        diagonal=np.tile([0.6, 0.9], 3),
        hessian=np.tile([0.4, 0.1], 3),
        diagonal_alone=ones,
        hessian_alone=ones,
        sharpness=0.2 * ones,
    )
    first, later, sharp = ledger.growth_claims("toy", growth)
    assert (first.measured, later.measured) == (pytest.approx(0.6), pytest.approx(0.9))
    assert first.verdict == later.verdict == "holds"
    assert sharp.measured == 1
    against = growth._replace(diagonal=growth.hessian, sharpness=0.9 * ones)
    assert [claim.verdict for claim in ledger.growth_claims("toy", against)][:2] == ["fails"] * 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("seeds", 0), ("every", 51), ("products", 2), ("networks", ()), ("networks", ("cosine",))],
)
def test_bad_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


def test_the_paper_preset_adds_networks_and_seeds():
    quick, paper = EXPERIMENT.presets["quick"], EXPERIMENT.presets["paper"]
    assert set(quick.networks) < set(paper.networks)
    assert dataclasses.replace(paper, seeds=quick.seeds).sine == quick.sine
