import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import reduction
from phenodl.embedding.clusters import DROPPED, clusters
from phenodl.models import mlp

TOLERANCES = {"angle": 0.1, "rtol": 1e-3, "atol": 1e-9}
IN_JAX = {("odd",): jnp.tanh, ("homogeneous",): jax.nn.relu, (): jax.nn.silu}


def random_network(rng, widths, bias=True):
    def layer(fan_in, fan_out):
        entries = {"weight": rng.standard_normal((fan_out, fan_in))}
        return entries | ({"bias": rng.standard_normal(fan_out)} if bias else {})

    return {f"layer_{n}": layer(*fans) for n, fans in enumerate(itertools.pairwise(widths))}


def outputs(params, inputs, activation):
    """The forward pass in NumPy."""
    signal = inputs
    for number in range(len(params)):
        signal = activation(signal) if number else signal
        layer = params[f"layer_{number}"]
        signal = layer["weight"] @ signal + layer.get("bias", np.zeros(1))[:, None]
    return signal


def scatter(rng, params, layer, counts, odd=False, homogeneous=False):
    """Splits every unit into so many, in random order, with random shares that sum to one."""
    before, after = dict(params[f"layer_{layer}"]), dict(params[f"layer_{layer + 1}"])
    origin = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    share = rng.uniform(0.2, 1.0, len(origin))
    share /= np.bincount(origin, share)[origin]
    sign = rng.choice([-1, 1], len(origin)) if odd else np.ones(len(origin))
    norm = rng.uniform(0.1, 10, len(origin)) if homogeneous else np.ones(len(origin))
    before = {
        name: leaf[origin] * (sign * norm).reshape(-1, *[1] * (leaf.ndim - 1))
        for name, leaf in before.items()
    }
    after["weight"] = after["weight"][:, origin] * (share * sign / norm)
    return params | {f"layer_{layer}": before, f"layer_{layer + 1}": after}, origin


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("activation", "traits"),
    [
        (np.tanh, {"odd": True}),
        (lambda z: np.maximum(z, 0), {"homogeneous": True}),
        (lambda z: z / (1 + np.exp(-z)), {}),
    ],
)
def test_a_random_split_is_undone(x64, activation, traits, bias):
    rng = np.random.default_rng(0)
    narrow = random_network(rng, (4, 3, 2, 2), bias)
    wide, first = scatter(rng, narrow, 0, [4, 1, 3], **traits)
    wide, second = scatter(rng, wide, 1, [2, 5], **traits)
    found = reduction.reduce(wide, IN_JAX[tuple(traits)], angle=1e-3)
    assert found.hidden == (3, 2)
    for labels, origin in zip(found.labels, (first, second), strict=True):
        pairs = set(zip(labels.tolist(), origin.tolist(), strict=True))
        assert len(pairs) == len(set(origin))  # one label for one origin
    inputs = rng.standard_normal((4, 20))
    expected = outputs(narrow, inputs, activation)
    np.testing.assert_allclose(outputs(wide, inputs, activation), expected, rtol=1e-9, atol=1e-12)
    reduced = jax.tree.map(np.asarray, found.params)
    np.testing.assert_allclose(
        outputs(reduced, inputs, activation), expected, rtol=1e-9, atol=1e-12
    )


def test_the_representative_is_right_to_first_order_in_the_spread(x64):
    """The error falls with the square of the spread; that of a plain mean does not."""
    rng = np.random.default_rng(1)
    center, offsets = np.array([2.0, 0.5]), rng.standard_normal((6, 2))
    weights = rng.uniform(0.5, 2.0, 6)
    x = np.linspace(-1, 1, 30)[None]
    errors, plain = [], []
    for spread in (1e-2, 1e-3):
        rows = center + spread * offsets
        wide = {
            "layer_0": {"weight": rows[:, :1], "bias": rows[:, 1]},
            "layer_1": {"weight": weights[None], "bias": np.zeros(1)},
        }
        found = reduction.reduce(wide, jnp.tanh)
        assert found.hidden == (1,)
        expected = outputs(wide, x, np.tanh)
        one = jax.tree.map(np.asarray, found.params)
        errors.append(np.abs(outputs(one, x, np.tanh) - expected).max())
        mean = rows.mean(0)
        one["layer_0"] = {"weight": mean[None, :1], "bias": mean[1:]}
        plain.append(np.abs(outputs(one, x, np.tanh) - expected).max())
    assert 80 < errors[0] / errors[1] < 125
    assert 8 < plain[0] / plain[1] < 12.5


def test_opposite_directions_are_one_for_an_odd_activation_alone():
    rows = np.array([[1.0, 2.0], [-1.0, -2.001], [2.0, 4.0]])
    columns = np.array([[1.0], [1.0], [1.0]])
    assert clusters(rows, columns, jnp.tanh, **TOLERANCES).tolist() == [0, 0, 0]
    assert clusters(rows, columns, jax.nn.relu, **TOLERANCES).tolist() == [0, 1, 0]


def test_no_cluster_is_wider_than_the_angle():
    """Complete linkage: a chain of near neighbours is cut, as brute force over pairs confirms."""
    angles = np.concatenate([np.linspace(0, 1.5, 40), [3.0, 3.05]])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = clusters(rows, np.ones((42, 1)), jax.nn.relu, **TOLERANCES | {"angle": 0.4})
    same = labels[:, None] == labels
    assert np.abs(angles[:, None] - angles)[same].max() <= 0.4
    assert labels.max() + 1 <= 2 * np.ceil(1.5 / 0.4) + 1
    assert labels[-1] == labels[-2] == labels.max()  # the smallest comes last


def test_the_smallest_units_go_while_they_are_negligible_together():
    rows = np.array([[1.0], [1e-4], [1e-4], [0.0], [5.0]])
    columns = np.array([[1.0], [1.0], [1.0], [1.0], [0.0]])
    labels = clusters(rows, columns, jnp.tanh, angle=0.1, rtol=3e-4, atol=0.0)
    assert labels.tolist() == [0, DROPPED, DROPPED, DROPPED, DROPPED]
    labels = clusters(rows, columns, jnp.tanh, angle=0.1, rtol=1.5e-4, atol=0.0)
    assert (labels == DROPPED).sum() == 3  # one of the two small ones is too many
    labels = clusters(1e-5 * rows, columns, jnp.tanh, angle=0.1, rtol=0.0, atol=1e-4)
    assert (labels == DROPPED).all()


def test_a_layer_of_which_nothing_is_left_keeps_a_zero_unit(x64):
    params = random_network(np.random.default_rng(2), (1, 4, 1))
    params["layer_1"]["weight"] *= 0
    found = reduction.reduce(params, jnp.tanh)
    assert found.hidden == (0,)
    assert jax.tree.map(jnp.shape, found.params["layer_0"]) == {"weight": (1, 1), "bias": (1,)}
    expected = np.broadcast_to(params["layer_1"]["bias"][:, None], (1, 5))
    np.testing.assert_array_equal(
        reduction.outputs(found.params, jnp.ones((1, 5)), jnp.tanh), expected
    )


def test_the_narrowest_network_with_the_function(x64):
    """Two steep neurons of nearly one direction count as two, as their function is that of two."""
    x = np.linspace(-1, 1, 50)[None]
    narrow = {
        "layer_0": {"weight": np.array([[30.0], [30.0]]), "bias": np.array([0.0, 2.0])},
        "layer_1": {"weight": np.array([[1.0, 0.5]]), "bias": np.zeros(1)},
    }
    wide, _ = scatter(np.random.default_rng(3), narrow, 0, [3, 4], odd=True)
    assert reduction.reduce(wide, jnp.tanh).hidden == (1,)
    found = reduction.narrowest(wide, jnp.asarray(x), jnp.tanh)
    assert found.hidden == (2,)
    gap = reduction.function_gap(wide, found.params, jnp.asarray(x), jnp.tanh)
    assert gap < 1e-12
    coarse = reduction.reduce(wide, jnp.tanh).params
    gap = reduction.function_gap(wide, coarse, jnp.asarray(x), jnp.tanh)
    difference = outputs(jax.tree.map(np.asarray, coarse), x, np.tanh) - outputs(wide, x, np.tanh)
    np.testing.assert_allclose(gap, np.linalg.norm(difference) / np.sqrt(50))
    assert gap > 1e-2
    assert reduction.narrowest(wide, jnp.asarray(x), jnp.tanh, tolerance=10).hidden == (1,)


def test_precision_is_kept_and_bad_input_refused():
    params = mlp.init(jax.random.key(0), [2, 4, 1])
    found = reduction.reduce(params, jnp.tanh)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.dtype("float32")}
    with pytest.raises(ValueError, match=r"angle must be in \[0, pi\], got 4"):
        reduction.reduce(params, jnp.tanh, angle=4)
    with pytest.raises(ValueError, match="params: expected the layers"):
        reduction.reduce(jnp.ones(3), jnp.tanh)
    for limits in ({"rtol": 5}, {"atol": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(limits))} must be"):
            reduction.reduce(params, jnp.tanh, **limits)
    with pytest.raises(ValueError, match=r"^params: expected concrete values"):
        jax.jit(lambda params: reduction.reduce(params, jnp.tanh).params)(params)
    params["layer_1"]["weight"] = params["layer_1"]["weight"].at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match=r"^params: expected finite values, .* layer_1"):
        reduction.reduce(params, jnp.tanh)


def test_a_dropped_unit_leaves_its_constant_where_the_activation_is_not_zero_at_zero(x64):
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    wide = {
        "layer_0": {"weight": np.array([[2.0], [1e-6]]), "bias": np.array([0.5, -1e-5])},
        "layer_1": {"weight": np.array([[1.0, 3.0]]), "bias": np.array([0.25])},
    }
    found = reduction.reduce(wide, jax.nn.sigmoid)
    assert found.hidden == (1,)
    x = np.linspace(-1, 1, 9)[None]
    np.testing.assert_allclose(
        outputs(jax.tree.map(np.asarray, found.params), x, sigmoid),
        outputs(wide, x, sigmoid),
        atol=1e-6,
    )
    bare = {name: {"weight": layer["weight"]} for name, layer in wide.items()}
    with pytest.raises(ValueError, match=r"^params: expected a bias in layer_1"):
        reduction.narrowest(bare, jnp.asarray(x), jax.nn.sigmoid)
