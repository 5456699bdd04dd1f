import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phenodl import compiler


def iterate(matrix, vectors):
    def step(vectors, _):
        vectors = matrix @ vectors
        return vectors / jnp.sqrt((vectors * vectors).sum(0, keepdims=True)), vectors.sum()

    return jax.lax.scan(step, vectors, length=5)


def test_one_kernel_gives_the_same_results(x64):
    rng = np.random.default_rng(0)
    matrix, vectors = jnp.asarray(rng.standard_normal((4, 4))), jnp.asarray(rng.random((4, 3)))
    plain = jax.jit(iterate).lower(matrix, vectors).compile()
    whole = jax.jit(compiler.one_kernel(iterate)).lower(matrix, vectors).compile()
    assert " while(" in plain.as_text()
    assert 'xla_cpu_small_call="true"' in whole.as_text()
    for one, other in zip(
        jax.tree.leaves(plain(matrix, vectors)),
        jax.tree.leaves(whole(matrix, vectors)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-13)


@pytest.mark.parametrize("library", [jnp.linalg.svdvals, jnp.linalg.eigvalsh, jnp.sort])
def test_what_calls_a_library_is_compiled_as_always(x64, library):
    def inside_a_loop(matrix):
        return jax.lax.fori_loop(0, 2, lambda _, m: m + library(m).sum(), matrix)

    matrix = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3)))
    compiled = jax.jit(compiler.one_kernel(inside_a_loop)).lower(matrix).compile()
    assert "xla_cpu_small_call" not in compiled.as_text()
    np.testing.assert_allclose(compiled(matrix), jax.jit(inside_a_loop)(matrix), rtol=1e-13)


def test_computed_once_differentiates_twice_and_maps(x64):
    def function(x):
        return jnp.sin(x) * x

    def total(function, x):
        return (function(x) ** 2).sum()

    x = jnp.linspace(0.1, 1.0, 5)
    for transform in (jax.grad, jax.hessian):
        once, plain = (
            jax.jit(transform(lambda x, each=each: total(each, x)))(x)
            for each in (compiler.computed_once(function), function)
        )
        np.testing.assert_allclose(once, plain, rtol=1e-13)
    mapped = jax.jit(jax.vmap(compiler.computed_once(function)))(x)
    np.testing.assert_allclose(mapped, np.sin(x) * x, rtol=1e-13)
