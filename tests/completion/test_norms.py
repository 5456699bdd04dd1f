import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl.completion import norms


def with_singular_values(rng, values, rows, columns):
    left, _ = np.linalg.qr(rng.standard_normal((rows, rows)))
    right, _ = np.linalg.qr(rng.standard_normal((columns, columns)))
    count = len(values)
    return left[:, :count] * np.asarray(values) @ right[:count]


def test_measures_of_matrices_with_known_singular_values(x64):
    rng = np.random.default_rng(0)
    spectra = [[5.0, 1.0, 5.1e-4], [5.0, 1.0, 4.9e-4], [2.0, 2.0, 2.0], [3.0, 0.0, 0.0]]
    matrices = jnp.asarray([with_singular_values(rng, values, 5, 3) for values in spectra])
    np.testing.assert_allclose(norms.singular_values(matrices), spectra, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(norms.nuclear_norm(matrices), np.sum(spectra, 1), rtol=1e-12)
    np.testing.assert_array_equal(norms.numerical_rank(matrices), [3, 2, 3, 1])
    np.testing.assert_array_equal(norms.numerical_rank(matrices, rtol=0.3), [1, 1, 3, 1])
    share = np.array(spectra[0]) / np.sum(spectra[0])
    expected = np.prod(share**-share)
    np.testing.assert_allclose(norms.effective_rank(matrices)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(norms.effective_rank(matrices)[2:], [3, 1], rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_zero_matrix_and_batches_under_jit(x64, dtype):
    matrix = jnp.stack([jnp.zeros((4, 4), dtype), jnp.eye(4, dtype=dtype)])
    batched = [jax.jit(f)(matrix) for f in (norms.numerical_rank, norms.effective_rank)]
    mapped = [jax.vmap(f)(matrix) for f in (norms.numerical_rank, norms.effective_rank)]
    for first, second in zip(batched, mapped, strict=True):
        np.testing.assert_allclose(first, [0, 4], rtol=1e-5)
        np.testing.assert_array_equal(first, second)
    assert batched[1].dtype == dtype
    assert norms.nuclear_norm(matrix).dtype == dtype
