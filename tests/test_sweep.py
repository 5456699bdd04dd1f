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


def test_one_seed_is_an_axis_and_other_axes_enter_the_key_by_their_place():
    runs = sweep.product(key=jax.random.key(0), seed=7)
    expected = jax.random.key_data(jax.random.fold_in(jax.random.key(0), 7))
    np.testing.assert_array_equal(jax.random.key_data(runs.key), expected[None])
    rates = sweep.product(
        key=jax.random.key(0), fold_in=("learning_rate",), learning_rate=[0.1, 0.2, 0.3]
    )
    assert len(np.unique(jax.random.key_data(rates.key), axis=0)) == 3


def test_a_raw_key_is_refused():
    with pytest.raises(ValueError, match=r"typed key, jax.random.key"):
        sweep.product(key=jax.random.PRNGKey(0), seed=[0])


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
        ({"seed": [-1]}, "axis 'seed' must hold integers"),
        ({"seed": [2**32]}, "axis 'seed' must hold integers"),
        ({"step": [1.0]}, "axis 'step': results use this name"),
        ({"step_5": [1.0]}, "axis 'step_5': results use this name"),
        ({"step_5": 1.0}, "axis 'step_5': results use this name"),
        ({"status": 1.0}, "axis 'status': results use this name"),
        ({"a": [[1.0], [2.0]]}, "axis 'a' must be a non-empty sequence"),
        ({"instance": {"x": np.ones(2), "y": np.ones(3)}}, r"entries hold \[2, 3\] instances"),
        ({"seed": [0], "fold_in": ("mask",)}, "fold_in names 'mask'"),
    ],
)
def test_bad_axes_are_named(axes, message):
    with pytest.raises(ValueError, match=message):
        sweep.product(key=jax.random.key(0), **axes)
