import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from phenodl.completion import graph
from phenodl.data import matrices


def test_degrees_of_freedom_are_the_rank_of_the_tangent_space():
    rng = np.random.default_rng(0)
    for side, rank in [(4, 1), (4, 2), (4, 3), (5, 2), (6, 6)]:
        left, right = rng.standard_normal((side, rank)), rng.standard_normal((rank, side))
        moves = [np.outer(row, col) for row in np.eye(side) for col in right]
        moves += [np.outer(row, col) for row in left.T for col in np.eye(side)]
        dimension = np.linalg.matrix_rank(np.reshape(moves, (-1, side * side)))
        assert matrices.degrees_of_freedom(rank, side) == dimension


def test_ground_truths_have_their_rank_and_the_law_of_the_product():
    rank = np.repeat([1, 2, 3], 2000)
    target = matrices.low_rank_matrices(np.random.default_rng(1), rank, (5, 4))
    assert target.shape == (6000, 5, 4)
    np.testing.assert_array_equal(np.linalg.matrix_rank(target), rank)
    # An entry is a sum of r products of standard normals: mean 0, variance r.
    for r in (1, 2, 3):
        entries = target[rank == r, 0, 0]
        assert abs(entries.mean()) < 4 * np.sqrt(r / 2000)
        assert entries.var() == pytest.approx(r, rel=0.25)
    # Given the row of G1, the entries of a rank-one row are normal; their ratio is Cauchy.
    ratio = target[rank == 1, 0, 0] / target[rank == 1, 0, 1]
    assert kstest(ratio, "cauchy").pvalue > 0.01


def test_masks_are_uniform_among_those_of_their_size():
    masks = matrices.random_masks(np.random.default_rng(2), np.full(6000, 2), (2, 2))
    patterns, counts = np.unique(masks.reshape(-1, 4), axis=0, return_counts=True)
    assert len(patterns) == 6
    assert chisquare(counts).pvalue > 0.01
    entries = np.arange(1, 13)
    masks = matrices.random_masks(np.random.default_rng(3), entries, (3, 4))
    np.testing.assert_array_equal(masks.sum((1, 2)), entries)


@pytest.mark.parametrize(("degree", "components"), [(1, 1), (2, 1), (4, 1), (1, 3), (2, 3), (3, 2)])
def test_connected_masks_have_the_connectivity_asked_for(degree, components):
    limits = matrices.entries_of_connected_masks(12, degree=degree, components=components)
    entries = np.repeat([limits[0], sum(limits) // 2, limits[1]], 20)
    rng = np.random.default_rng(4)
    masks = matrices.connected_masks(rng, entries, 12, degree=degree, components=components)
    np.testing.assert_array_equal(masks.sum((1, 2)), entries)
    np.testing.assert_array_equal(masks.sum(2).min(1), degree)
    assert masks.sum(1).min() == degree
    for mask, count in zip(masks, entries, strict=True):
        found = graph.observation_graph(mask)
        assert found.count == components
        assert (found.row_component >= 0).all()
        assert (found.column_component >= 0).all()
        incomplete_rows = (found.blocks & ~mask).any(1).sum()
        assert (incomplete_rows == 1) == (count == limits[1])


def test_connected_masks_favour_no_entry():
    rng = np.random.default_rng(5)
    masks = matrices.connected_masks(rng, np.full(4000, 14), 5, degree=2)
    # Entries of one mask repel one another, so that the counts vary less than a multinomial's.
    assert chisquare(masks.sum(0).ravel()).pvalue > 0.01


def test_the_family_follows_its_two_laws():
    family = matrices.connectivity_family(5, masks_per_size=4, sparse_masks=30)
    sizes = family.mask.sum((1, 2))
    near = {1: range(3, 9), 2: range(8, 14), 3: range(11, 16)}
    expected = sorted((r, size) for r, span in near.items() for size in span for _ in range(4))
    assert sorted(zip(family.rank[:68], sizes[:68], strict=True)) == expected
    np.testing.assert_array_equal(np.bincount(family.rank[68:]), [0, 10, 10, 10])
    assert set(sizes[68:]) <= set(range(3, 11))
    np.testing.assert_array_equal(np.linalg.matrix_rank(family.target), family.rank)


def test_the_family_holds_all_three_classes_and_is_decided_by_its_seed():
    family, again = (matrices.connectivity_family(6) for _ in range(2))
    for first, second in zip(family, again, strict=True):
        np.testing.assert_array_equal(first, second)
    other = matrices.connectivity_family(7)
    assert not np.isin(other.target, family.target).any()
    classes = [graph.observation_graph(mask).connectivity for mask in family.mask]
    counts = {name: classes.count(name) for name in graph.CONNECTIVITIES}
    assert sum(counts.values()) == 760
    assert min(counts.values()) >= 60


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda rng: matrices.low_rank_matrices(rng, np.array([0]), (3, 3)), "rank"),
        (lambda rng: matrices.low_rank_matrices(rng, np.array([4]), (3, 5)), "rank"),
        (lambda rng: matrices.random_masks(rng, np.array([0]), (3, 3)), "entries"),
        (lambda rng: matrices.random_masks(rng, np.array([10]), (3, 3)), "entries"),
        (lambda rng: matrices.connected_masks(rng, np.array([38]), 20, degree=1), "entries"),
        (lambda rng: matrices.connected_masks(rng, np.array([9]), 3, degree=2), "entries"),
        (lambda rng: matrices.connected_masks(rng, np.array([9]), 4, degree=5), "degree"),
        (
            lambda rng: matrices.connected_masks(rng, np.array([9]), 6, degree=1, components=4),
            "components",
        ),
        (lambda rng: matrices.connectivity_family(0, side=3), "side"),
    ],
)
def test_bad_arguments_are_named(call, argument):
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        call(np.random.default_rng(0))
