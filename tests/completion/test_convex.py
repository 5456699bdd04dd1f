import cvxpy
import jax
import numpy as np
import pytest

from phenodl.completion import component_nuclear_norm, minimum_nuclear_norm, observation_graph
from phenodl.data import matrices


def convex_oracle(target, mask):
    variable = cvxpy.Variable(target.shape)
    observed = cvxpy.multiply(mask.astype(float), variable - target)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(variable)), [observed == 0])
    return problem.solve(solver="CLARABEL")


def test_bounds_enclose_the_value_of_a_convex_solver():
    rng = np.random.default_rng(0)
    target = matrices.low_rank_matrices(rng, np.array([1, 2, 3, 2, 1, 3]), (4, 5))
    mask = matrices.random_masks(rng, np.array([7, 9, 12, 14, 5, 10]), (4, 5))
    bounds = minimum_nuclear_norm(target, mask)
    np.testing.assert_array_equal(bounds.solution[mask], target[mask])
    norm = np.linalg.norm(bounds.solution, "nuc", axis=(1, 2))
    np.testing.assert_allclose(norm, bounds.upper, rtol=1e-13)
    for number in range(6):
        oracle = convex_oracle(target[number], mask[number])
        assert bounds.lower[number] == pytest.approx(oracle, rel=2e-6)
        assert bounds.upper[number] == pytest.approx(oracle, rel=2e-6)


def test_the_gap_is_certified_on_generic_instances():
    family = matrices.connectivity_family(8, masks_per_size=3, sparse_masks=150)
    bounds = minimum_nuclear_norm(family.target, family.mask)
    assert np.all(bounds.gap >= -1e-12)
    assert np.mean(bounds.gap <= 1e-6) >= 0.99
    # The ground truth fits, so that its norm cannot be less than the minimum.
    assert np.all(bounds.lower <= np.linalg.norm(family.target, "nuc", axis=(1, 2)) * (1 + 1e-12))


def test_a_larger_matrix_is_recovered_from_half_of_its_entries():
    rng = np.random.default_rng(3)
    target = matrices.low_rank_matrices(rng, np.array([2]), (30, 24))
    mask = matrices.random_masks(rng, np.array([400]), (30, 24))
    bounds = minimum_nuclear_norm(target, mask)
    assert bounds.gap[0] <= 1e-9
    np.testing.assert_allclose(bounds.solution, target, atol=1e-6 * np.abs(target).max())
    # The same problem, wide instead of tall.
    turned = minimum_nuclear_norm(target.swapaxes(1, 2), mask.swapaxes(1, 2))
    np.testing.assert_allclose(turned.upper, bounds.upper, rtol=1e-8)


def test_instances_do_not_depend_on_their_neighbours_or_the_precision_around(x64):
    family = matrices.connectivity_family(10, masks_per_size=1, sparse_masks=20)
    together = minimum_nuclear_norm(family.target, family.mask)
    with jax.enable_x64(False):
        alone = minimum_nuclear_norm(family.target[5:6], family.mask[5:6])
    assert alone.upper[0] == together.upper[5]
    assert alone.lower[0] == together.lower[5]
    none = minimum_nuclear_norm(family.target[:0], family.mask[:0])
    assert none.upper.shape == (0,)


def test_closed_form_of_complete_bipartite_data():
    family = matrices.connectivity_family(9, masks_per_size=1, sparse_masks=200)
    graphs = [observation_graph(mask) for mask in family.mask]
    chosen = np.array([graph.complete.all() for graph in graphs])
    assert chosen.sum() >= 20
    blocks = np.stack([graph.blocks for graph in graphs])[chosen]
    target, mask = family.target[chosen], family.mask[chosen]
    closed = component_nuclear_norm(target, blocks)
    bounds = minimum_nuclear_norm(target, mask)
    assert np.all(bounds.lower <= closed * (1 + 1e-12))
    assert np.all(bounds.upper >= closed * (1 - 1e-12))
    assert np.median(bounds.gap) <= 1e-9

    for number in (0, 1, 2):  # the sum over components, each cut out
        graph = observation_graph(mask[number])
        total = sum(
            np.linalg.norm(
                target[number][np.ix_(graph.row_component == p, graph.column_component == p)], "nuc"
            )
            for p in range(graph.count)
        )
        assert closed[number] == pytest.approx(total, rel=1e-12)


def test_scale_and_unobserved_entries_do_not_matter():
    target = np.array([[[2.0, 1.0], [1.0, np.nan]]])
    mask = ~np.isnan(target)
    for scale in (1e-6, 1.0, 1e6, 0.0):
        bounds = minimum_nuclear_norm(scale * target, mask)
        np.testing.assert_allclose(bounds.upper, 2.5 * scale, rtol=1e-8)
        assert bounds.gap[0] <= 1e-9


def test_bad_arguments_are_named():
    target = np.ones((2, 3, 3))
    with pytest.raises(ValueError, match="target and mask must be"):
        minimum_nuclear_norm(target, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="target must be finite"):
        minimum_nuclear_norm(np.where(np.eye(3) > 0, np.inf, target), target > 0)
    with pytest.raises(ValueError, match="at most 65536 entries for the convex solver, got 300 x"):
        minimum_nuclear_norm(np.ones((1, 300, 300)), np.ones((1, 300, 300)))
