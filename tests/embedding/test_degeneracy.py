from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.embedding import composition, degeneracy, fibres, width
from tests.oracles import numpy_network

# Non-degenerate critical points: the smallest absolute eigenvalue is 1e-4 or more.
SHALLOW = numpy_network.critical_point((3, 2, 1), n=16, residual=0.5, seed=52)
TWO_OUTPUTS = numpy_network.critical_point((2, 2, 2), n=12, residual=0.5, seed=29)
DEEP = numpy_network.critical_point((2, 2, 2, 2, 2), n=40, residual=0.5, seed=40)
MANY_OUTPUTS = numpy_network.critical_point((1, 1, 4), n=8, residual=0.5, seed=17)
HIDDEN_LAYERS = [(SHALLOW, 0), (TWO_OUTPUTS, 0), (DEEP, 0), (DEEP, 1), (DEEP, 2), (MANY_OUTPUTS, 0)]
ALPHAS = np.array([0.3, 1.7, -0.4, 0.0, 1.0])


def inertia(params, point):
    params = jax.tree.map(np.asarray, params)
    return numpy_network.inertia(numpy_network.hessian(params, point.inputs, point.targets))


def added(wide, point):
    """The inertia of a wide network less that of the narrow one; the spectrum must have a gap."""
    (before, clear), (after, still_clear) = inertia(point.params, point), inertia(wide, point)
    assert min(clear, still_clear) > 1e4
    assert before[1] == 0
    return after - before


def counted(matrix, point):
    """The inertia of a small matrix, at the tolerance of the Hessian that it is a part of."""
    scale = np.linalg.norm(numpy_network.hessian(*point), 2)
    values = np.linalg.eigvalsh(matrix)
    negative, positive = np.sum(values < -1e-12 * scale), np.sum(values > 1e-12 * scale)
    return np.array([negative, len(values) - negative - positive, positive])


def loss_of(point):
    return lambda outputs: jnp.mean((outputs - point.targets) ** 2)


@pytest.mark.parametrize(("point", "layer"), HIDDEN_LAYERS)
def test_a_split_adds_the_inertia_of_its_transverse_hessian(x64, point, layer):
    across = jax.jit(
        jax.vmap(
            lambda alpha: degeneracy.split_hessian(
                point.params, layer, 0, alpha, point.inputs, jnp.tanh, loss_of(point)
            )
        )
    )(ALPHAS)
    zeros = degeneracy.split_zeros(point.params, layer, ALPHAS)
    for alpha, matrix, zero in zip(ALPHAS, across, zeros, strict=True):
        change = added(width.split(point.params, layer, 0, alpha), point)
        np.testing.assert_array_equal(change, counted(matrix, point))
        assert change[1] == zero
    assert (zeros[:3] == (2 if point is MANY_OUTPUTS else 1)).all()


def test_the_transverse_hessian_is_the_wide_hessian_on_the_directions_across_a_split(x64):
    """Move unit and copy by alpha u and -(1 - alpha) u, and their output weights by c and -c."""
    alpha, layer, unit = 1.7, 1, 1
    wide = jax.tree.map(np.asarray, width.split(DEEP.params, layer, unit, alpha))
    directions = []
    for coordinate in range(5):
        direction = jax.tree.map(np.zeros_like, wide)
        own = direction["layer_1"]
        for row, size in ((unit, alpha), (2, alpha - 1)):
            if coordinate < 2:
                own["weight"][row, coordinate] = size
            elif coordinate == 2:
                own["bias"][row] = size
        if coordinate > 2:
            direction["layer_2"]["weight"][coordinate - 3, unit] = 1
            direction["layer_2"]["weight"][coordinate - 3, 2] = -1
        directions.append(numpy_network.ravel(direction))
    basis = np.stack(directions)
    expected = basis @ numpy_network.hessian(wide, DEEP.inputs, DEEP.targets) @ basis.T
    found = jax.jit(
        lambda alpha: degeneracy.split_hessian(
            DEEP.params, layer, unit, alpha, DEEP.inputs, jnp.tanh, loss_of(DEEP)
        )
    )(alpha)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("point", "layer"), HIDDEN_LAYERS)
def test_a_null_unit_adds_the_inertia_of_its_transverse_hessian(x64, point, layer):
    def predict(bias):
        given = (point.params, layer, bias, point.inputs, jnp.tanh, loss_of(point))
        return degeneracy.null_hessian(*given), degeneracy.null_zeros(*given)

    matrix, zeros = jax.jit(predict)(0.7)
    change = added(width.null(point.params, layer, 0.7), point)
    np.testing.assert_array_equal(change, counted(matrix, point))
    assert change[0] == change[2]
    assert change[1] == zeros


def test_null_zeros_count_the_rank_of_errors_against_inputs(x64):
    """d + 1 + o - 2 rank(sum e x'), with inputs and residuals taken from NumPy."""
    residual = numpy_network.forward(TWO_OUTPUTS.params, TWO_OUTPUTS.inputs)[-1]
    residual = residual - TWO_OUTPUTS.targets
    rank = np.linalg.matrix_rank(residual @ TWO_OUTPUTS.inputs.T, tol=1e-10)
    found = jax.jit(
        lambda bias: degeneracy.null_zeros(
            TWO_OUTPUTS.params, 0, bias, TWO_OUTPUTS.inputs, jnp.tanh, loss_of(TWO_OUTPUTS)
        )
    )(0.1)
    assert found == 2 + 1 + 2 - 2 * rank


@pytest.mark.parametrize(
    ("point", "hidden"),
    [(SHALLOW, (5,)), (TWO_OUTPUTS, (4,)), (DEEP, (4, 3, 3)), (MANY_OUTPUTS, (3,))],
)
def test_compatible_embeddings_add_as_many_zeros_as_they_have_dimensions(x64, point, hidden):
    wide = jax.jit(
        lambda key: fibres.compatible(
            point.params, composition.draw_compatible(point.params, hidden, key)
        )
    )(jax.random.key(0))
    change = added(wide, point)
    assert change[1] == degeneracy.compatible_zeros(point.params, hidden)
    assert (change >= 0).all()


def test_the_count_of_a_compatible_embedding_is_the_sum_over_pairs_of_fibres():
    sources = [np.array([0, 1, 1, 0, 1]), np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])]
    copies = [np.bincount(source) for source in sources]
    pairs = sum((k - 1) * (j - 1) for s, t in pairwise(copies) for k in s for j in t)
    added_units = (5 - 2) + (4 - 2) + (4 - 2)
    assert degeneracy.compatible_zeros(DEEP.params, (5, 4, 4)) == added_units + pairs


def test_a_layer_or_unit_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="layer: expected"):
        degeneracy.split_zeros(DEEP.params, 3, 0.5)
    with pytest.raises(ValueError, match="unit: expected"):
        degeneracy.split_hessian(DEEP.params, 0, 2, 0.5, DEEP.inputs, jnp.tanh, loss_of(DEEP))
    with pytest.raises(ValueError, match="hidden: expected"):
        degeneracy.compatible_zeros(DEEP.params, (1, 2, 2))


def rectified(z):
    return jnp.maximum(z, 0.1 * z)  # second derivative zero


def test_without_curvature_a_split_adds_at_every_alpha_what_it_adds_at_zero(x64):
    """On errors e chosen so that the point is critical, sum s'(z) (a.e) x = 0, and else free."""
    rng = np.random.default_rng(0)
    params = {
        "layer_0": {"weight": np.array([[1.0, -0.5]]), "bias": np.array([0.2])},
        "layer_1": {"weight": np.array([[2.0], [1.0]]), "bias": np.zeros(2)},
    }
    x, across, along = rng.normal(size=(2, 9)), rng.normal(size=9), rng.normal(size=9)
    ones = np.vstack([x, np.ones(9)])
    z = np.array([1.0, -0.5, 0.2]) @ ones
    zeros = {}
    for activation, slope in (
        (rectified, np.where(z > 0, 1.0, 0.1)),
        (jnp.tanh, 1 - np.tanh(z) ** 2),
    ):
        moved = ones * slope
        free = along - moved.T @ np.linalg.lstsq(moved.T, along, rcond=None)[0]
        e = np.outer([1.0, -2.0], across) + np.outer([2.0, 1.0], free)
        matrix = degeneracy.split_hessian(
            params, 0, 0, 0.3, x, activation, lambda outputs, e=e: jnp.sum(outputs * e)
        )
        values = np.abs(np.linalg.eigvalsh(np.asarray(matrix)))
        zeros[activation] = np.sum(values < 1e-12 * values.max())
    assert zeros[jnp.tanh] == degeneracy.split_zeros(params, 0, 0.3) == 1
    assert zeros[rectified] == degeneracy.split_zeros(params, 0, 0.0) == 3


def test_a_null_unit_on_a_flat_stretch_of_the_activation_adds_zeros_alone(x64):
    """Three input weights and a bias, one output weight: C = s'(bias) sum e x' = 0."""
    found = jax.jit(
        lambda bias: degeneracy.null_zeros(
            SHALLOW.params, 0, bias, SHALLOW.inputs, jax.nn.relu, loss_of(SHALLOW)
        )
    )
    assert found(-0.5) == 5
    assert found(0.5) == 3
