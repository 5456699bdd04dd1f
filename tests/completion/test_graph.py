import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phenodl.completion import graph

masks = arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))).filter(np.any)


def reachable(mask):
    """Which vertices are linked by a path, by repeated squaring of the adjacency matrix."""
    rows, columns = mask.shape
    linked = np.eye(rows + columns, dtype=int)
    linked[:rows, rows:], linked[rows:, :rows] = mask, mask.T
    for _ in range(5):  # paths of up to 32 edges
        linked = np.minimum(linked @ linked, 1)
    return linked.astype(bool)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_components_are_the_classes_of_reachability(mask):
    rows, _ = mask.shape
    found = graph.observation_graph(mask)
    component = np.concatenate([found.row_component, found.column_component])
    linked = reachable(mask)
    isolated = linked.sum(1) == 1
    np.testing.assert_array_equal(component == -1, isolated)
    kept = np.flatnonzero(~isolated)
    np.testing.assert_array_equal(
        component[kept, None] == component[kept], linked[np.ix_(kept, kept)]
    )
    assert set(component[kept]) == set(range(found.count))

    np.testing.assert_array_equal(found.blocks, linked[:rows, rows:])
    for number, complete in enumerate(found.complete):
        inside = np.ix_(found.row_component == number, found.column_component == number)
        assert complete == mask[inside].all()
    classes = {
        found.count == 1: "connected",
        found.count > 1 and np.array_equal(found.blocks, mask): "complete bipartite",
        found.count > 1 and not np.array_equal(found.blocks, mask): "other",
    }
    assert found.connectivity == classes[True]


@settings(max_examples=50, deadline=None)
@given(masks, st.randoms(use_true_random=False))
def test_class_does_not_depend_on_order_or_on_empty_rows(mask, random):
    rows, columns = list(range(mask.shape[0])), list(range(mask.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    expected = graph.observation_graph(mask)
    padded = np.pad(mask[np.ix_(rows, columns)], 1)
    for other in (mask[np.ix_(rows, columns)], padded, padded.T):
        found = graph.observation_graph(other)
        assert (found.count, found.connectivity) == (expected.count, expected.connectivity)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[1, 1], [1, 0]], "connected"),
        ([[1, 1], [1, 1]], "connected"),
        ([[1, 0], [0, 1]], "complete bipartite"),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 1]], "complete bipartite"),
        ([[1, 1, 0], [1, 0, 0], [0, 0, 1]], "other"),
        ([[1, 1, 0], [0, 0, 0], [0, 0, 0]], "connected"),
    ],
)
def test_textbook_masks(mask, expected):
    assert graph.observation_graph(mask).connectivity == expected


def test_a_million_entries():
    rng = np.random.default_rng(0)
    side = 100_000
    place = rng.choice(side * side, 1_000_000, replace=False)
    found = graph.graph_of_entries(place // side, place % side, (side, side))
    # With a mean degree of 10 an isolated vertex has probability exp(-10).
    isolated = np.concatenate([found.row_component, found.column_component]) == -1
    assert isolated.sum() == pytest.approx(2 * side * np.exp(-10), abs=5 * np.sqrt(9))
    assert found.connectivity == "connected"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: graph.observation_graph(np.zeros((2, 2))), "^mask must have at least one"),
        (lambda: graph.observation_graph(np.ones(3)), "^mask must be a matrix"),
        (lambda: graph.graph_of_entries([0, 2], [0, 0], (2, 2)), "^rows must be in"),
        (lambda: graph.graph_of_entries([0, 1], [0, -1], (2, 2)), "^columns must be in"),
        (lambda: graph.graph_of_entries([], [], (2, 2)), "^mask must have at least one"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
