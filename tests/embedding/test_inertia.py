import jax
import jax.numpy as jnp
import numpy as np

from phenodl.embedding import inertia


def symmetric(eigenvalues, seed=0):
    random = np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2)
    basis, _ = np.linalg.qr(random)
    return basis @ np.diag(eigenvalues) @ basis.T


def test_counts_are_those_of_sylvesters_law(x64):
    # A congruence changes all eigenvalues and none of their signs.
    mixed = np.random.default_rng(1).standard_normal((7, 7))
    matrix = mixed @ np.diag([-3.0, -1.0, 0.0, 0.0, 0.5, 1.0, 2.0]) @ mixed.T
    counts = inertia.inertia(jnp.linalg.eigvalsh(jnp.asarray(matrix)))
    assert [int(each) for each in counts] == [2, 2, 3, True]


def test_a_spectrum_without_a_gap_is_undetermined(x64):
    clear = [[-1.0, 1e-16, 1e-6], [-1.0, 1e-14, 1e-11], [0.0, 0.0, 0.0]]
    close = [[-1.0, 0.9e-12, 1.1e-12], [-1.0, 5e-13, 2e-12], [1.0, np.nan, 2.0]]
    answers = inertia.inertia(jnp.array(clear + close))
    assert answers.determined.tolist() == [True] * 3 + [False] * 3
    assert answers.zero.tolist() == [1, 1, 3, 1, 1, 0]


def test_hessians_are_counted_in_a_batch(x64):
    spectra = np.array([[-2.0, 0.0, 1e-3], [1e-20, 4.0, 5.0], [-1.0, -1e-5, -1.0]])
    matrices = jnp.asarray([symmetric(each) for each in spectra])

    def counts(matrix):
        return inertia.of_hessian(lambda x: x @ matrix @ x / 2, jnp.zeros(3))

    answers = jax.jit(jax.vmap(counts))(matrices)
    assert answers.negative.tolist() == [1, 0, 3]
    assert answers.zero.tolist() == [1, 1, 0]
    assert answers.positive.tolist() == [1, 2, 0]
    assert answers.determined.all()
    assert inertia.inertia(jnp.array([-1.0, 1e-3, 1.0]), rtol=1e-2).zero == 1


def test_a_block_that_is_zero_to_rounding_is_zero_at_the_scale_of_the_whole(x64):
    """The union of two spectra has the counts of its parts, if both are counted at its scale."""
    parts = [np.array([-2.0, 1e-17, 3.0]), np.array([-1e-17, 4e-17, 3e-18])]
    whole = inertia.inertia(jnp.array(np.concatenate(parts)))
    assert whole.determined
    counted = [inertia.inertia(jnp.array(part), scale=3.0) for part in parts]
    sums = [int(a + b) for a, b in zip(counted[0][:3], counted[1][:3], strict=True)]
    assert sums == [int(each) for each in whole[:3]] == [1, 4, 1]
    assert all(each.determined for each in counted)
    assert int(inertia.inertia(jnp.array(parts[1])).zero) == 0  # its own scale is noise
    both = jax.jit(lambda scale: inertia.inertia(jnp.array(parts), scale=scale))(np.ones(2))
    assert both.zero.tolist() == [1, 3]
    assert int(inertia.inertia(jnp.array(parts[0]), scale=1e-9).positive) == 1


def test_what_is_not_finite_is_undetermined_and_not_counted(x64):
    spectra = jnp.array([[1.0, 2.0, np.inf], [-np.inf, 2.0, 0.0], [np.nan, -1.0, 0.0]])
    found = inertia.inertia(spectra)
    assert not found.determined.any()
    np.testing.assert_array_equal(jnp.stack(found[:3], 1), [[0, 0, 2], [0, 1, 1], [1, 1, 0]])
    assert not inertia.inertia(jnp.ones(2), scale=jnp.inf).determined
