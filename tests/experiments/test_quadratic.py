import dataclasses

import jax
import numpy as np
import pytest
from recorders import InMemory
from scipy.special import spence

from experiments.spikes.quadratic import ledger, run, spectrum, theory
from experiments.spikes.quadratic.config import EXPERIMENT, Config
from experiments.spikes.quadratic.spikes import ring_down
from experiments.spikes.quadratic.stages import stages

CONFIG = Config(
    points=12,
    edge_b1=(0.0, 0.5),
    edge_eps=(1e-12, 1e-3, 0.02, 0.03, 0.07, 0.08),
    edge_steps=1500,
    rotations=4,
    first_seed=1000,
)
SHORT = Config(
    learning_rate=1e30,
    steps=60,
    points=2,
    edge_steps=40,
    edge_b1=(0.9,),
    edge_eps=(1e-8,),
    rotations=1,
)
TABLE = {  # β2: steps of the crossing and of the peak, from an independent program
    0.95: (197, 206),
    0.98: (432, 460),
    0.99: (789, 846),
    0.995: (1436, 1547),
    0.999: (5556, 6032),
}


@pytest.fixture(scope="module")
def results():
    recorder = InMemory()
    with jax.enable_x64(True):
        run.train(CONFIG, recorder)
    return recorder.results


@pytest.fixture(scope="module")
def analysis(results):
    with jax.enable_x64(True):
        return run.analyze(CONFIG, results)


def simulate(eta, b1, b2, steps=10_000, eps=1e-8):
    """Adam on θ²/2 in plain NumPy: losses and preconditioned curvatures."""
    theta, m, v = 1.0, 0.0, 0.0
    losses, curvatures = [], []
    for count in range(1, steps + 1):
        m, v = b1 * m + (1 - b1) * theta, b2 * v + (1 - b2) * theta**2
        diagonal = 1 / (np.sqrt(v / (1 - b2**count)) + eps)
        losses.append(theta**2 / 2)
        curvatures.append((1 - b1) / (1 + b1) / (1 - b1**count) * diagonal)
        theta -= eta * diagonal * m / (1 - b1**count)
    return np.array(losses), np.array(curvatures)


def rise_in_decades(loss, window):
    """The height of a stored run's highest spike over its floor, by whole windows."""
    highest = loss.reshape(-1, window).max(1)
    floor = np.minimum.accumulate(highest)
    return np.log10((highest[1:] / floor[:-1]).max(initial=1))


def test_crossing_peak_and_decay_are_those_of_the_reference(analysis):
    rows = {row["b2"]: row for row in analysis.tables["stages"]}
    assert list(rows) == list(TABLE)
    for b2, (crossing, peak) in TABLE.items():
        assert abs(rows[b2]["crossing"] - crossing) <= 1
        assert abs(rows[b2]["peak"] - peak) <= 1
        assert abs(rows[b2]["decay"] - b2) < 1e-4
        assert rows[b2]["crossing"] < rows[b2]["trigger"] < rows[b2]["peak"]


def test_every_claim_is_as_expected(analysis):
    assert {claim.id.removeprefix("spikes-quadratic/") for claim in analysis.claims} == {
        "decay",
        "peak",
        "control",
        "gradient-descent",
        "crossing-step",
        "spectrum",
        "overshoot",
        "ring-down",
        "window",
        "no-window",
        "rotated-crossing",
        "rotated-direction",
        "crossing-precedes-spike",
        "no-crossing-below-b1",
        "small-b2",
    }
    assert not [claim.id for claim in analysis.claims if claim.verdict == "fails"]
    exact = {claim.id: claim.measured for claim in analysis.claims}
    assert exact["spikes-quadratic/crossing-step"] == 0
    assert 0 < exact["spikes-quadratic/decay"] < 1e-4
    assert exact["spikes-quadratic/small-b2"] == 1
    assert exact["spikes-quadratic/crossing-precedes-spike"] == 1
    assert exact["spikes-quadratic/no-crossing-below-b1"] == 1


def test_gradient_descent_shrinks_the_loss_by_a_constant_factor(results):
    loss = results["gradient-descent"].loss.values.squeeze()[:1000]
    np.testing.assert_allclose(loss, 0.5 * 0.85 ** (2 * np.arange(1000)), rtol=1e-11)


@pytest.mark.parametrize(("b1", "row", "column"), [(0.0, 8, 9), (0.9, 3, 8), (0.9, 11, 4)])
def test_reduced_extremes_equal_those_of_the_whole_history(results, b1, row, column):
    point = results["phase-diagram"].sel(b1=b1).isel(b2=row, learning_rate=column, step_chunk=-1)
    eta = float(point.learning_rate)
    loss, curvature = simulate(eta, b1, float(point.b2))
    above = curvature > 2 / eta
    assert point.first_crossing == (np.argmax(above) if above.any() else -1)
    stored = rise_in_decades(np.maximum(loss, 1e-300), window=round(2 / (1 - b1)))
    # A chaotic run agrees in the size of its spikes alone; a run without crossing in all digits.
    assert float(np.log10(point.rise)) == pytest.approx(stored, rel=0.2 if above.any() else 1e-6)


@pytest.mark.usefixtures("x64")
def test_a_trajectory_without_crossing_has_no_stages(results):
    control = stages(results["adam"].sel(b2=0.9), b1=0.9)
    assert control[:4] == (-1, -1, -1, -1)
    assert np.isnan(control[4:]).all()


@pytest.mark.parametrize(("b1", "eps"), [(0.0, 0.03), (0.5, 0.02), (0.5, 0.03)])
def test_crossings_are_those_of_the_reference(analysis, b1, eps):
    _, curvature = simulate(0.15, b1, 0.99, steps=1500, eps=eps)
    above = curvature > 2 / 0.15
    expected = np.argmax(above) + 1 if above.any() else np.inf
    (row,) = [
        row
        for row in analysis.tables["crossings"]
        if (row["b1"], row["eps"], row["eigenvalue"]) == (b1, eps, 1)
    ]
    assert row["measured"] == expected == row["derived"]


def test_overshoot_without_momentum_tends_to_the_zero_of_the_dilogarithm():
    h = np.geomspace(1e-9, 14, 400_001)
    moved = theory.fall_of_theta(h, b1=0.0)
    zero = h[1:][(moved > 0) & (h[1:] > 2)][0]
    # Re Li2(x) = 0: with spence(1 - x) = Li2(x), continued beyond 1 by Euler's inversion.
    inverted = np.pi**2 / 3 - np.log(zero) ** 2 / 2 - spence(1 - 1 / zero)
    assert inverted == pytest.approx(0, abs=1e-3)


def test_a_crossing_that_should_not_be_is_an_error():
    row = {"eps": 0.1, "measured": np.inf, "derived": np.inf}
    crossing = ledger.crossing_claims([row, row | {"measured": 7.0, "derived": 8.0}])[0]
    assert (crossing.measured, crossing.n, crossing.verdict) == (1, 2, "holds")
    for measured, derived in ((7.0, np.inf), (np.inf, 7.0), (np.inf, np.nan)):
        wrong = row | {"measured": measured, "derived": derived}
        assert ledger.crossing_claims([row, wrong])[0].verdict == "fails"


@pytest.mark.usefixtures("x64")
def test_nothing_is_said_of_a_detector_that_never_triggers(results):
    without_momentum = dataclasses.replace(CONFIG, b1=0.0)
    rows = run.trigger_table(without_momentum, results["adam"])
    assert [row["window"] for row in rows] == [2] * len(CONFIG.b2)
    windowed, bare = ledger.trigger_claims(rows)
    assert windowed.n == sum(row["triggers"] for row in rows)
    assert (bare.n, bare.verdict) == (0, "undetermined")
    silent = ledger.trigger_claims([row | {"triggers": 0, "false": 0} for row in rows])
    assert [claim.verdict for claim in silent] == ["undetermined"] * 2


def test_rotated_quadratic_is_that_of_a_simulation(results):
    hessian = spectrum.instances(CONFIG.eigenvalues, run.seeds(CONFIG))
    matrix, theta = hessian["hessian"][1], hessian["start"][1].copy()
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix)[::-1], CONFIG.eigenvalues, rtol=1e-12)
    some = results["spectrum"].isel(rotation=1, eps=0)
    m = v = np.zeros(len(theta))
    for count in range(1, 201):
        gradient = matrix @ theta
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        move = -0.15 * m / (1 - 0.9**count) / np.sqrt(v / (1 - 0.99**count))
        theta += move
    np.testing.assert_allclose(some.second_moment.isel(step=199), v, rtol=1e-8)
    np.testing.assert_allclose(some.move.isel(step=199), move, rtol=1e-6)


def test_first_spike_of_a_rotated_quadratic_crosses_with_the_whole_spectrum(results, analysis):
    hessian = spectrum.instances(CONFIG.eigenvalues, run.seeds(CONFIG))["hessian"][1]
    v = results["spectrum"].isel(rotation=1, eps=0).second_moment.values
    count = np.arange(1, len(v) + 1)[:, None]
    root = (v / (1 - 0.99**count)) ** -0.25
    values = np.linalg.eigvalsh(root[:, :, None] * hessian * root[:, None, :])[:, -1]
    assert analysis.tables["rotations"][0]["crossing"] == np.argmax(values * 0.1 / 1.9 > 2 / 0.15)


def test_ring_down_of_a_damped_swing_is_fitted():
    steps = np.arange(400)
    loss = 0.9**steps * np.cos(0.4 * steps) ** 2
    assert ring_down(loss, 50, 0.9) == pytest.approx(0.9, abs=0.003)
    assert np.isnan(ring_down(loss, 395, 0.9))


def test_figures_can_be_drawn(analysis):
    names = {"trajectories", "phase-diagram", "crossings", "spectrum", "ring-down"}
    assert set(analysis.figures) == names
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


@pytest.mark.usefixtures("x64")
def test_a_short_and_absurd_training_is_analyzed():
    recorder = InMemory()
    run.train(SHORT, recorder)
    analysis = run.analyze(SHORT, recorder.results)
    claims = {claim.id.removeprefix("spikes-quadratic/"): claim for claim in analysis.claims}
    assert claims["decay"].verdict == "undetermined"
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", float("nan")),
        ("b1", 1.0),
        ("b2", (0.5, 1.0)),
        ("b2", ()),
        ("b2", (0.9, 0.99)),
        ("points", 0),
        ("steps", 1),
        ("diagram_b1", (0.5, 0.5)),
        ("edge_b1", (1.0,)),
        ("edge_eps", (0.0,)),
        ("edge_eps", (0.1, 0.1)),
        ("edge_b2", 1.0),
        ("edge_steps", 1),
        ("eigenvalues", (1.0, -1.0)),
        ("spectrum_eps", ()),
        ("rotations", 0),
        ("first_seed", -1),
        ("diagram_learning_rate", (1.0, 0.1)),
        ("diagram_learning_rate", (0.1, float("inf"))),
        ("diagram_learning_rate", (0.0, 0.1)),
        ("diagram_forgetting", (1e-20, 0.5)),
        ("diagram_forgetting", (0.1, 2.0)),
    ],
)
def test_configuration_refuses_nonsense(field, value):
    with pytest.raises(ValueError, match=f"^{field} must"):
        Config(**{field: value})


def test_presets_differ_in_resolution_alone():
    assert EXPERIMENT.presets["paper"] == Config(points=200, rotations=64)
