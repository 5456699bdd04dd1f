import jax
import numpy as np
import pytest
from recorders import InMemory

from experiments.spikes.quadratic import run
from experiments.spikes.quadratic.config import EXPERIMENT, Config
from experiments.spikes.quadratic.stages import stages

CONFIG = Config(points=12)
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
        "crossing-precedes-spike",
        "no-crossing-below-b1",
    }
    assert not [claim.id for claim in analysis.claims if claim.verdict == "fails"]
    exact = {claim.id: claim.measured for claim in analysis.claims}
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


def test_figures_can_be_drawn(analysis):
    assert set(analysis.figures) == {"trajectories", "phase-diagram"}
    for figure in analysis.figures.values():
        figure.draw_without_rendering()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "config", [Config(steps=60, points=2), Config(steps=60, points=2, learning_rate=1e30)]
)
def test_short_and_absurd_trajectories_are_analyzed(config):
    recorder = InMemory()
    run.train(config, recorder)
    analysis = run.analyze(config, recorder.results)
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
    assert EXPERIMENT.presets["paper"] == Config(points=200)
