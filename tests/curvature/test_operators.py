import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from networks import SIZE, dense_hessian, network, positive

from phenodl.curvature import (
    cold_start,
    dense,
    hessian,
    lanczos,
    layer_masks,
    preconditioned,
    restrict,
)

pytestmark = pytest.mark.usefixtures("x64")


def test_dense_hessian_equals_the_nested_jacobian():
    params, loss = network(0, np.float64)
    flat, unravel = ravel_pytree(params)
    expected = jax.jit(jax.hessian(lambda flat: loss(unravel(flat))))(flat)
    np.testing.assert_allclose(dense_hessian(loss, params), expected, rtol=1e-12, atol=1e-13)


def test_preconditioned_hessian_is_symmetric_and_similar_to_the_product():
    params, loss = network(1, np.float64)
    diagonal = positive(2, params)

    @jax.jit
    def matrix(params):
        return dense(preconditioned(hessian(loss, params), diagonal, 0.3), params)

    ours = matrix(params)
    np.testing.assert_allclose(ours, ours.T, atol=1e-13)
    scaling = np.diag(ravel_pytree(diagonal)[0])
    expected = np.linalg.eigvals(0.3 * scaling @ dense_hessian(loss, params))
    np.testing.assert_allclose(np.linalg.eigvalsh(ours), np.sort(expected.real), atol=1e-12)


def test_dense_places_columns_not_rows():
    matrix = np.random.default_rng(0).standard_normal((4, 4))
    ours = dense(lambda x: jnp.asarray(matrix) @ x, jnp.zeros(4))
    np.testing.assert_allclose(ours, matrix, rtol=1e-15)


def test_largest_eigenvalue_of_every_layer_at_once():
    params, loss = network(3, np.float64)
    names, masks = layer_masks(params)

    @jax.jit
    def measure(params):
        matvec = hessian(loss, params)
        top = lambda mask: lanczos(restrict(matvec, mask), cold_start(params), products=SIZE)
        return jax.vmap(top)(masks)

    ours = measure(params)
    full = dense_hessian(loss, params)
    blocks = np.split(np.arange(SIZE), [24])
    expected = [np.linalg.eigvalsh(full[np.ix_(rows, rows)])[-1] for rows in blocks]
    assert names == ("layer_0", "layer_1")
    np.testing.assert_allclose(ours.values[:, 0], expected, rtol=1e-12)
    assert ours.converged.all()


def test_layers_of_a_sequence_and_of_a_single_array():
    names, masks = layer_masks([jnp.ones(2), {"weight": jnp.ones(1), "bias": jnp.ones(1)}])
    assert names == ("0", "1")
    assert masks[0].tolist() == [[1, 1], [0, 0]]
    assert masks[1]["bias"].tolist() == [[0], [1]]
    with pytest.raises(ValueError, match="params: expected a dict, list or tuple"):
        layer_masks(jnp.ones(3))
