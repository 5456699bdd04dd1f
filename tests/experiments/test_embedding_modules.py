import dataclasses

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.embedding.modules import run
from experiments.embedding.modules.config import Config
from experiments.embedding.modules.measure import measure
from experiments.embedding.modules.networks import networks, planted, squared_error

CONFIG = Config(seed=3, bases=2, draws=1)


@pytest.fixture(scope="module")
def base():
    with jax.enable_x64(True):
        yield planted("cnn", seed=3, count=2, residual=0.5)


def test_planted_points_are_critical_and_do_not_fit(x64, base):
    network = networks()["cnn"]

    @jax.jit
    @jax.vmap
    def at(start, targets):
        return jax.value_and_grad(lambda p: squared_error(network.outputs(p), targets))(start)

    loss, gradient = at(base["start"], base["targets"])
    np.testing.assert_allclose(loss, 0.25, rtol=1e-12)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-14


def test_the_hessian_after_a_split_is_that_of_the_wide_network_alone(x64, base):
    """The inertia, predicted and through null units, against a dense Hessian without these."""
    network = networks()["cnn"]
    kind = "unit, dense layer"
    one = measure(network, base["start"], base["targets"], 1, 3)[kind]
    np.testing.assert_array_equal(one.after.negative, one.predicted.negative)
    np.testing.assert_array_equal(one.after.zero, one.before.zero + 1)

    start = jax.tree.map(lambda leaf: leaf[0], base["start"])
    alpha = float(one.alpha[0, 0])
    found = set()
    for unit in range(2):
        first, last = start["dense1"], start["dense2"]
        column, row = (slice(None), [unit]), [unit]
        shared = np.array(last["weight"])
        copy = alpha * shared[row]
        shared[row] *= 1 - alpha
        wide = {
            **start,
            "dense1": {
                "weight": np.concatenate([first["weight"], first["weight"][column]], axis=1),
                "bias": np.concatenate([first["bias"], first["bias"][row]]),
            },
            "dense2": {**last, "weight": np.concatenate([shared, copy])},
        }
        flat, unravel = ravel_pytree(wide)

        def loss(flat, unravel=unravel):
            return squared_error(network.outputs(unravel(flat)), base["targets"][0])

        eigenvalues = np.linalg.eigvalsh(jax.jit(jax.hessian(loss))(flat))
        found.add(int((eigenvalues < -1e-12 * np.abs(eigenvalues).max()).sum()))
    assert int(one.after.negative[0, 0]) in found


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("bases", 0), ("draws", 0), ("residual", 0.0), ("steps", 0)],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        dataclasses.replace(CONFIG, **{field: value})


def test_ranges_are_read_easily():
    assert run._range(np.array([3, 3])) == "3"
    assert run._range(np.array([1, 4])) == "1 to 4"
