import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding.catalogue import Entry, catalogue, distinct, match
from phenodl.models import mlp

X = np.linspace(-1, 1, 9)[None]


def network(rows, outgoing, bias):
    rows = np.asarray(rows, float)
    return {
        "layer_0": {"weight": rows[:, :1], "bias": rows[:, 1]},
        "layer_1": {"weight": np.asarray([outgoing], float), "bias": np.array([float(bias)])},
    }


def stack(*points):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *points)


def entry(value, loss, hidden=(1,)):
    return Entry(hidden, loss, np.full((1, 4), value), {}, 1)


def test_permuted_and_turned_points_are_one_and_the_rest_is_not(x64):
    point = network([[1.0, 0.2], [3.0, -1.0]], [0.5, 2.0], 0.1)
    permuted = network([[3.0, -1.0], [1.0, 0.2]], [2.0, 0.5], 0.1)
    turned = network([[-1.0, -0.2], [3.0, -1.0]], [-0.5, 2.0], 0.1)
    other = network([[1.0, 0.2], [3.0, -1.0]], [0.5, 2.0], 0.2)
    points = stack(point, other, permuted, turned)
    found = distinct(points, [0.3, 0.2, 0.3, 0.3], jnp.asarray(X), jnp.tanh)
    assert [(each.loss, each.found) for each in found] == [(0.2, 1), (0.3, 3)]
    assert all(each.hidden == (2,) for each in found)
    expected = 0.5 * np.tanh(X + 0.2) + 2 * np.tanh(3 * X - 1) + 0.1
    np.testing.assert_allclose(found[1].outputs, expected, atol=1e-14)
    np.testing.assert_array_equal(found[0].params["layer_1"]["bias"], [0.2])
    # For an activation that is not odd the turned one is another network.
    found = distinct(points, [0.3, 0.2, 0.3, 0.3], jnp.asarray(X), jax.nn.gelu)
    assert [each.found for each in found] == [1, 2, 1]


def test_equal_functions_of_different_loss_are_not_one(x64):
    point = network([[1.0, 0.2]], [0.5], 0.1)
    found = distinct(stack(point, point, point), [1.0, 1.1, 1.0], jnp.asarray(X), jnp.tanh)
    assert [each.found for each in found] == [2, 1]


def test_a_family_of_splits_is_one_entry_and_stands_at_the_least_width(x64):
    narrow = network([[1.0, 0.2]], [0.5], 0.1)
    splits = [network([[1.0, 0.2]] * 2, [0.5 * (1 - a), 0.5 * a], 0.1) for a in (-1, 0.3, 0.5)]
    own = network([[1.0, 0.2], [4.0, 0.0]], [0.5, 0.3], 0.0)
    first = distinct(stack(narrow), [0.4], jnp.asarray(X), jnp.tanh)
    second = distinct(stack(*splits, own), [0.4, 0.4, 0.4, 0.1], jnp.asarray(X), jnp.tanh)
    assert [each.found for each in second] == [1, 3]
    whole = catalogue([first, second])
    assert [(each.hidden, each.loss) for each in whole] == [((1,), 0.4), ((2,), 0.1)]
    assert catalogue([second, first]) == second


def test_the_nearest_function_wins_whatever_its_loss():
    entries = [entry(0.0, 0.5), entry(1.0, 0.1), entry(3.0, 0.29)]
    found = match(entries, 0.3, np.full((1, 4), 1.25))
    assert found.number == 1
    np.testing.assert_allclose(found[1:], (0.2, 0.25))


def test_nothing_found_is_an_empty_catalogue():
    empty = jax.tree.map(lambda leaf: leaf[:0], stack(network([[1.0, 0.0]], [1.0], 0.0)))
    assert distinct(empty, [], jnp.asarray(X), jnp.tanh) == catalogue([()]) == ()


def test_bad_input_is_refused():
    point = stack(mlp.init(jax.random.key(0), [1, 2, 1]))
    with pytest.raises(ValueError, match="loss must hold one number per point"):
        distinct(point, [0.1, 0.2], jnp.asarray(X), jnp.tanh)
    with pytest.raises(ValueError, match="params: expected layers"):
        distinct({"dense": {"kernel": np.ones((1, 2, 2))}}, [0.1], jnp.asarray(X), jnp.tanh)
    with pytest.raises(ValueError, match="entries must hold at least one"):
        match([], 0.1, np.ones((1, 4)))
    with pytest.raises(ValueError, match="outputs must be on the data of the catalogue"):
        match([entry(0.0, 0.5)], 0.1, np.ones((1, 5)))
