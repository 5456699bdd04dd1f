"""Hints to XLA's compiler where its own choices cost a small problem most of its time.

The results do not depend on them but for rounding, and a compiler that does not know them passes
them over.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from phenodl.jaxprs import equations

QUICKLY = (("xla_backend_optimization_level", 1),)
"""Compiler options, as in ``Layout.compiler_options``, that save a quarter of the time to compile a
network with its curvatures and cost its steps nothing measurable on a CPU.
For trainings of minutes, and for what runs once."""

ONCE = (("xla_backend_optimization_level", 0), ("xla_cpu_use_fusion_emitters", False))
"""Compiler options for programs that run for less time than they take to compile: on a CPU they are
compiled in a third of it."""

_LIBRARY_CALLS = {"ffi_call", "fft", "io_callback", "pure_callback", "sort", "top_k"} | {
    *("cholesky", "eig", "eigh", "geqrf", "hessenberg", "householder_product", "lu", "schur"),
    *("svd", "triangular_solve", "tridiagonal", "tridiagonal_solve"),
}


def one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Has a function compiled into one piece of machine code, loops and all.

    XLA makes a kernel of every fusion and calls them one by one. A call costs 50 to 100 ns, which
    for a block of 4 x 4 matrices is as much as the arithmetic. What calls a library (LAPACK, a
    sort, a Python callback) cannot be part of a kernel: such a function is compiled as always.

    Args:
        function: from arrays to arrays, to be called under ``jax.jit``.

    Example:
        >>> import jax.numpy as jnp
        >>> octuple = one_kernel(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: 2 * y, x))
        >>> float(jax.jit(octuple)(jnp.ones(())))
        8.0
    """
    jitted = jax.jit(function)

    def call(*arguments: Any) -> Any:
        program = jitted.trace(*arguments).jaxpr
        if any(each.primitive.name in _LIBRARY_CALLS for each, _ in equations(program)):
            return function(*arguments)
        return set_xla_metadata(jitted(*arguments), inlineable="false", xla_cpu_small_call="true")

    return call


def computed_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Has the results of a function stored, instead of computed anew by all that read them.

    Args:
        function: from arrays to arrays; may be differentiated.

    Example:
        >>> import jax.numpy as jnp
        >>> float(jax.grad(computed_once(lambda x: x**2))(jnp.array(3.0)))
        6.0
    """
    jitted = jax.jit(function)

    def call(*arguments: Any) -> Any:
        return set_xla_metadata(jitted(*arguments), inlineable="false")

    return call
