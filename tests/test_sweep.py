import jax
import numpy as np
import pytest

from phenodl import sweep


def test_a_run_depends_on_its_seed_alone():
    key = jax.random.key(5)
    few = sweep.product(key=key, seed=[4], learning_rate=[0.1])
    many = sweep.product(key=key, seed=range(9), learning_rate=[0.2, 0.1], b2=[0.9, 0.99])
    expected = jax.random.key_data(jax.random.fold_in(key, 4))
    np.testing.assert_array_equal(jax.random.key_data(few.key[0]), expected)
    for run in many.id.reshape(9, 2, 2)[4].ravel():
        np.testing.assert_array_equal(jax.random.key_data(many.key[run]), expected)
    assert len(np.unique(jax.random.key_data(many.key), axis=0)) == 9


def test_the_last_axis_varies_fastest():
    runs = sweep.product(key=jax.random.key(0), seed=[0, 1], a=[1.0, 2.0, 3.0], b=7.0)
    np.testing.assert_array_equal(runs.hyper["a"], [1, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal(runs.hyper["b"], 7)
    assert list(runs.axes) == ["seed", "a"]


def test_instances_join_the_data_and_may_enter_the_key():
    masks = np.arange(12).reshape(3, 2, 2)
    instance = {"mask": masks, "rank": np.array([1, 2, 3])}
    shared = sweep.product(key=jax.random.key(0), instance=instance, seed=[0, 1])
    np.testing.assert_array_equal(shared.data["mask"], np.repeat(masks, 2, axis=0))
    np.testing.assert_array_equal(shared.data["rank"], [1, 1, 2, 2, 3, 3])
    assert len(np.unique(jax.random.key_data(shared.key), axis=0)) == 2
    own = sweep.product(
        key=jax.random.key(0), fold_in=("seed", "instance"), instance=instance, seed=[0, 1]
    )
    assert len(np.unique(jax.random.key_data(own.key), axis=0)) == 6


def test_take_keeps_the_identity_of_runs():
    runs = sweep.product(key=jax.random.key(0), seed=range(4), a=[1.0, 2.0])
    some = runs.take([5, 0])
    np.testing.assert_array_equal(some.id, [5, 0])
    np.testing.assert_array_equal(some.hyper["a"], [2.0, 1.0])
    assert some.axes is runs.axes


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"seed": []}, "axis 'seed' must be a non-empty sequence"),
        ({"seed": [0.5]}, "axis 'seed' must hold integers"),
        ({"a": [[1.0], [2.0]]}, "axis 'a' must be a non-empty sequence"),
        ({"instance": {"x": np.ones(2), "y": np.ones(3)}}, r"entries hold \[2, 3\] instances"),
        ({"seed": [0], "fold_in": ("mask",)}, "fold_in names 'mask'"),
    ],
)
def test_bad_axes_are_named(axes, message):
    with pytest.raises(ValueError, match=message):
        sweep.product(key=jax.random.key(0), **axes)
