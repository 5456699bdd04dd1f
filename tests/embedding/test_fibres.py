import jax
import numpy as np
import pytest

from phenodl.embedding import fibres, width
from phenodl.embedding.fibres import Choice
from tests.oracles import numpy_network

RNG = np.random.default_rng(0)
POINT = numpy_network.critical_point((2, 2, 3, 2), n=30, residual=0.5, seed=4)
SOURCES = (np.array([0, 1, 1, 0, 1]), np.array([0, 1, 2, 2]))
SHARES = (np.array([0.7, -1.0, 1.5, 0.3, 0.5]), np.array([1.0, 1.0, -0.6, 1.6]))
REMAINDER = RNG.normal(size=(4, 5))


def test_the_rows_and_columns_of_the_wide_weights_sum_as_the_theorem_asks(x64):
    wide = fibres.compatible(POINT.params, Choice(SOURCES, SHARES, (REMAINDER,)))
    narrow = POINT.params["layer_1"]["weight"]
    weight = np.asarray(wide["layer_1"]["weight"])
    (into, out), (share_in, share_out) = SOURCES, SHARES
    for wide_out, narrow_out in enumerate(out):
        for unit in range(2):
            row = weight[wide_out, into == unit].sum()
            np.testing.assert_allclose(row, narrow[narrow_out, unit], rtol=1e-13)
    for wide_in, narrow_in in enumerate(into):
        for unit in range(3):
            column = (share_out * weight[:, wide_in])[out == unit].sum()
            expected = share_in[wide_in] * narrow[unit, narrow_in]
            np.testing.assert_allclose(column, expected, rtol=1e-13)


def test_output_and_criticality_are_preserved_with_the_remainder(x64):
    wide = fibres.compatible(POINT.params, Choice(SOURCES, SHARES, (REMAINDER,)))
    plain = fibres.compatible(POINT.params, Choice(SOURCES, SHARES, (np.zeros((4, 5)),)))
    wide, plain = (jax.tree.map(np.asarray, each) for each in (wide, plain))
    assert np.abs(wide["layer_1"]["weight"] - plain["layer_1"]["weight"]).max() > 0.1
    for params in (wide, plain):
        outputs = numpy_network.forward(params, POINT.inputs)[-1]
        expected = numpy_network.forward(POINT.params, POINT.inputs)[-1]
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-14)
        gradient = numpy_network.gradient(params, POINT.inputs, POINT.targets)
        assert np.abs(numpy_network.ravel(gradient)).max() < 1e-14


def test_the_remainders_span_as_many_dimensions_as_the_theorem_counts(x64):
    """(k_s - 1)(k_t - 1) summed over the pairs of fibres: here (1 + 2) * 1."""
    project = jax.jit(
        jax.vmap(lambda matrix: fibres.unnoticed(matrix, SOURCES[0], SOURCES[1], SHARES[1]))
    )
    images = np.asarray(project(np.eye(20).reshape(20, 4, 5))).reshape(20, 20)
    np.testing.assert_allclose(images @ images, images, atol=1e-14)
    np.testing.assert_allclose(images, images.T, atol=1e-14)
    assert np.linalg.matrix_rank(images, tol=1e-10) == 3


def test_a_split_is_the_compatible_embedding_of_one_copy(x64):
    sources = (np.array([0, 1]), np.array([0, 1, 2, 1]))
    shares = (np.ones(2), np.array([1, 0.75, 1, 0.25]))
    general = fibres.compatible(POINT.params, Choice(sources, shares, (np.ones((4, 2)),)))
    jax.tree.map(np.testing.assert_array_equal, general, width.split(POINT.params, 1, 1, 0.25))


def test_a_choice_for_another_depth_is_refused():
    with pytest.raises(ValueError, match="choice: expected"):
        fibres.compatible(POINT.params, Choice(SOURCES[:1], SHARES[:1], ()))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (((0, 1, 5), (0.5, 1, 0.5)), r"sources of hidden layer 0 in \[0, 2\), got \[0, 1, 5\]"),
        (((0, 1, -1), (1, 0.5, 0.5)), r"sources of hidden layer 0 in \[0, 2\)"),
        (((0, 0, 0), (0.5, 0.5, 0.0)), "a copy of every unit of hidden layer 0 that has output"),
        (((0, 1, 1), (1.0, 1.0)), r"shares of shapes \[\(3,\), \(3,\)\], got \[\(2,\)"),
        (((0, 1, 1), (1.0, 1.0, 1.0)), "the shares of all copies of a unit of hidden layer 0"),
        (((0, 1, 1), (1.0, np.nan, 1.0)), "the shares of all copies of a unit of hidden layer 0"),
    ],
)
def test_a_choice_that_embeds_nothing_is_refused(choice, message):
    source, share = map(np.array, choice)
    whole = Choice((source, np.arange(3)), (share, np.ones(3)), (np.zeros((3, 3)),))
    with pytest.raises(ValueError, match=f"choice: expected {message}"):
        fibres.compatible(POINT.params, whole)


def test_a_remainder_of_another_shape_is_refused_though_traced():
    plain = Choice((np.arange(2), np.arange(3)), (np.ones(2), np.ones(3)), ())
    with pytest.raises(ValueError, match=r"remainders of shapes \[\(3, 2\)\], got \[\(2, 3\)\]"):
        jax.eval_shape(
            lambda choice: fibres.compatible(POINT.params, choice),
            plain._replace(remainders=(np.zeros((2, 3)),)),
        )


def test_a_unit_without_output_weights_may_go(x64):
    padded = jax.tree.map(np.asarray, width.null(POINT.params, 0, 0.3))
    kept = Choice((np.arange(2), np.arange(3)), (np.ones(2), np.ones(3)), (np.zeros((3, 2)),))
    jax.tree.map(np.testing.assert_array_equal, fibres.compatible(padded, kept), POINT.params)
