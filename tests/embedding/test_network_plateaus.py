import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import plateaus
from phenodl.embedding.reduction import Reduction, reduce
from phenodl.models import mlp

X = np.linspace(-1, 1, 15)


def wide(rows, outgoing, repeats=3):
    """Each neuron as equal copies of both signs."""
    rows = np.repeat(np.asarray(rows, float), repeats, 0)
    outgoing = np.repeat(np.asarray(outgoing, float), repeats) / repeats
    sign = np.resize([1.0, -1.0], len(rows))
    return {
        "layer_0": {"weight": (sign * rows[:, 0])[:, None], "bias": sign * rows[:, 1]},
        "layer_1": {"weight": (sign * outgoing)[None], "bias": np.array([0.2])},
    }


def test_neighbouring_rests_with_one_function_are_one(x64):
    """Three falls of the gradient, at which the six neurons point in one, one, two directions."""
    one = wide([[1.0, 0.5], [2.0, 1.0]], [1.0, 1.0])
    two = wide([[1.0, 0.5], [2.0, -3.0]], [1.0, 1.0])
    exact = wide([[1.5, 0.75]] * 2, [1.0, 1.0])
    norm = np.concatenate([10.0 ** (np.abs(np.arange(-20, 21)) / 5 - d) for d in (3, 6, 5)])
    history = jax.tree.map(
        lambda *leaves: np.concatenate([np.stack([leaf] * 41) for leaf in leaves]), one, exact, two
    )
    loss = np.linspace(3, 1, 123)
    found = plateaus.find_rests(norm, loss, history, jnp.asarray(X[None]), mlp.tanh, tolerance=0.3)
    assert [(each.index, each.reduction.hidden) for each in found] == [(61, (1,)), (102, (2,))]
    assert [each.loss for each in found] == [loss[61], loss[102]]
    assert max(each.function_gap for each in found) < 1e-13
    expected = np.tanh(X + 0.5) + np.tanh(2 * X - 3) + 0.2
    np.testing.assert_allclose(found[1].outputs, expected[None], rtol=1e-12)
    found = plateaus.find_rests(norm, loss, history, jnp.asarray(X[None]), mlp.tanh)
    assert [each.index for each in found] == [20, 61, 102]
    assert [each.reduction.hidden for each in found][1:] == [(1,), (2,)]
    assert found[0].function_gap > 1e-2  # two norms in one direction, which no angle tells apart
    with pytest.raises(ValueError, match="params must have a leading axis of the 122 records"):
        plateaus.find_rests(norm[1:], loss[1:], history, jnp.asarray(X[None]), mlp.tanh)


@pytest.mark.parametrize(
    ("last", "loss", "expected"),
    [
        ([1e-4, 1e-6], 1.0, [4]),
        ([1e-4, 2e-5], 1.0, []),
        ([1e-6, np.nan], 1.0, [3]),
        ([1e-4, 1e-6], 1e-11, []),
    ],
)
def test_a_run_rests_at_its_end_if_the_gradient_vanishes_there(x64, last, loss, expected):
    """Other ends are still on their way, or have come to a loss of zero."""
    one = wide([[1.0, 0.5]], [1.0], 6)
    history = jax.tree.map(lambda leaf: np.stack([leaf] * 5), one)
    norm = np.array([1.0, 1e-2, 1e-3, *last])
    found = plateaus.find_rests(norm, np.full(5, loss), history, jnp.asarray(X[None]), mlp.tanh)
    assert [rest.index for rest in found] == expected


def test_reductions_are_polished_to_critical_points_of_their_own_data(x64):
    targets = np.stack([np.tanh(3 * X - 1), np.sin(2 * X)])[:, None] + 0.05 * np.cos(5 * X)
    starts = [wide([[2.9, -0.9]], [1.0]), wide([[1.5, 0.01]], [1.2])]
    batches = {"inputs": np.stack([X[None]] * 2), "targets": targets}
    problem = mlp.problem(X[:, None], X[:, None])
    points = plateaus.polish_reductions(
        problem.loss, [reduce(start, mlp.tanh) for start in starts], batches
    )
    assert points.accepted.tolist() == [True, True]
    for row, target in enumerate(targets[:, 0]):
        first, last = (
            {name: np.asarray(leaf)[row] for name, leaf in points.params[layer].items()}
            for layer in ("layer_0", "layer_1")
        )
        a, hidden = last["weight"][0, 0], np.tanh(first["weight"][0, 0] * X + first["bias"][0])
        error = 2 * (a * hidden + last["bias"][0] - target) / len(X)
        slope = error * a * (1 - hidden**2)
        gradient = [error.sum(), error @ hidden, slope.sum(), slope @ X]
        assert np.linalg.norm(gradient) < 1e-13
        assert abs(a) > 0.5


def test_a_reduction_far_up_a_valley_is_polished_downhill(x64):
    """From x = 3 the gradient of 1 - exp(-x^2 / 2) falls to both sides: downhill is to x = 0."""

    def loss(params, floor):
        return floor - jnp.exp(-(params["layer_0"]["weight"][0, 0] ** 2) / 2)

    far = Reduction({"layer_0": {"weight": jnp.array([[3.0]])}}, ())
    uphill, downhill = (
        plateaus.polish_reductions(loss, [far], np.ones(1), descent_steps=steps)
        for steps in (0, 40)
    )
    assert abs(uphill.params["layer_0"]["weight"]).min() > 3
    assert abs(downhill.params["layer_0"]["weight"]).max() < 1e-13


def test_only_networks_of_one_shape_are_polished_together():
    reductions = [reduce(mlp.init(jax.random.key(0), [d, 2, 1]), jnp.tanh) for d in (1, 2)]
    for wrong in ([], reductions):
        with pytest.raises(ValueError, match="reductions must be one or more of equal widths"):
            plateaus.polish_reductions(lambda params, batch: jnp.zeros(()), wrong, {})
