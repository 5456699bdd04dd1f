import jax
import numpy as np
import pytest

from phenodl.embedding import composition, networks
from tests.oracles import numpy_network

POINT = numpy_network.critical_point((2, 2, 3, 2), n=30, residual=0.5, seed=4)
HIDDEN = (5, 6)
DRAWS = 40


@pytest.fixture(scope="module")
def drawn():
    """Many embeddings in one compiled call, as NumPy arrays, and the sources of another kind."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), DRAWS)
        draw = jax.vmap(
            lambda key: (
                composition.embed(POINT.params, HIDDEN, key),
                composition.draw_compatible(POINT.params, HIDDEN, key),
            )
        )
        return jax.tree.map(np.asarray, jax.jit(draw)(keys))


def test_every_draw_keeps_output_and_criticality(drawn):
    wide, _ = drawn
    expected = numpy_network.forward(POINT.params, POINT.inputs)[-1]
    for number in range(DRAWS):
        params = jax.tree.map(lambda array, number=number: array[number], wide)
        assert networks.widths(params) == (2, *HIDDEN, 2)
        outputs = numpy_network.forward(params, POINT.inputs)[-1]
        assert np.abs(outputs - expected).max() < 1e-13
        gradient = numpy_network.gradient(params, POINT.inputs, POINT.targets)
        assert np.linalg.norm(numpy_network.ravel(gradient)) < 1e-13


def test_null_units_come_in_every_number_and_no_two_draws_are_alike(drawn):
    incoming = drawn[0]["layer_0"]["weight"]
    nulls = (np.abs(incoming).max(2) == 0).sum(1)
    assert set(nulls) == {0, 1, 2, 3}
    everything = [leaf.reshape(DRAWS, -1) for leaf in jax.tree.leaves(drawn[0])]
    assert len(np.unique(np.concatenate(everything, axis=1), axis=0)) == DRAWS


def test_drawn_sources_cover_the_narrow_units_and_shares_sum_to_one(drawn):
    choice = drawn[1]
    for source, share, narrow in zip(choice.sources, choice.shares, (2, 3), strict=True):
        np.testing.assert_array_equal(source[:, :narrow], np.tile(np.arange(narrow), (DRAWS, 1)))
        assert set(source[:, narrow:].ravel()) == set(range(narrow))
        for unit in range(narrow):
            total = np.where(source == unit, share, 0).sum(1)
            np.testing.assert_allclose(total, 1, rtol=0, atol=1e-14)


def test_the_same_architecture_gives_the_same_network(x64):
    same = jax.jit(lambda key: composition.embed(POINT.params, (2, 3), key))(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, same, POINT.params)


@pytest.mark.parametrize("hidden", [5, (5,), (1, 6), (5, 2)])
def test_a_target_narrower_than_the_source_or_of_another_depth_is_refused(hidden):
    with pytest.raises(ValueError, match="hidden: expected"):
        composition.embed(POINT.params, hidden, jax.random.key(0))


def test_draws_pass_the_checks_of_concrete_choices(x64):
    for seed in range(3):
        composition.embed(POINT.params, (4, 4), jax.random.key(seed))
