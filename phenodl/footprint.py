"""What a training needs, known before it starts: memory from the compiler, work from the program.

Nothing is allocated or computed: shapes alone are traced and compiled, so that a model that fills
a machine can be judged on it beforehand.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from phenodl.engine.blocks import Span, advance_group, compiled, device_mesh, fresh_block
from phenodl.engine.packing import plain
from phenodl.engine.step import Program, TrainState
from phenodl.jaxprs import equations
from phenodl.protocol import Data, Layout, Method, Probe, Problem
from phenodl.sweep import Runs


class Footprint(NamedTuple):
    """What one step on one device needs, in bytes and floating-point operations.

    Attributes:
        parameters: how many numbers one run trains.
        runs: how many runs the device trains in one call.
        params: bytes of their parameters; a gradient takes as many, and so does each tangent.
        method: of the optimizer's state.
        probes: of what the probes remember.
        data: of the problem's data.
        workspace: of a step without probes: gradient, activations, copies of the state.
        measuring: what the probes add to the workspace, tangents among others; 0 where they fit
            into what the gradient has left.
        peak: of all, the state before and after the step included.
        flops: of a step without probes, see :func:`flops`.
        measuring_flops: of the probes, at a step where all of them measure.
    """

    parameters: int
    runs: int
    params: int
    method: int
    probes: int
    data: int
    workspace: int
    measuring: int
    peak: int
    flops: int
    measuring_flops: int


def footprint(
    problem: Problem,
    method: Method,
    runs: Runs,
    *,
    probes: Sequence[Probe] = (),
    layout: Layout = Layout(width=1),
) -> Footprint:
    """What :func:`phenodl.training.train` will need of a device for the same arguments.

    The step is compiled twice, with the probes and without: seconds for a small model, a minute
    for a large one.

    Args:
        problem: what is minimised.
        method: how the parameters move.
        runs: the sweep.
        probes: what is measured.
        layout: how runs lie in memory; one block is counted unless it says how many.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from phenodl import sweep, training
        >>> problem = Problem(lambda key, data, hyper: jnp.ones(1000), lambda x, _: (x**2).sum())
        >>> method = training.from_optax(lambda hyper: optax.adam(0.1))
        >>> need = footprint(problem, method, sweep.product(key=jax.random.key(0)))
        >>> need.parameters, need.params, need.method
        (1000, 4000, 8004)
    """
    bare = _step(problem, method, runs, (), layout)
    full = _step(problem, method, runs, tuple(probes), layout)
    without, whole = (_compile(step).memory_analysis() for step in (bare, full))
    work, whole_work = (
        flops(functools.partial(advance_group, step.program, _ONE), *step.arguments)
        for step in (bare, full)
    )
    count, state = math.prod(full.state.id.shape), full.state
    return Footprint(
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)) // count,
        runs=count,
        params=_bytes(state.params),
        method=_bytes(state.method),
        probes=_bytes(state.probes),
        data=_bytes(full.data),
        workspace=without.temp_size_in_bytes,
        measuring=max(whole.temp_size_in_bytes - without.temp_size_in_bytes, 0),
        peak=whole.argument_size_in_bytes + whole.output_size_in_bytes + whole.temp_size_in_bytes,
        flops=work,
        measuring_flops=whole_work - work,
    )


def describe(need: Footprint) -> list[str]:
    """The footprint in words: a line for the memory, one for the work.

    Example:
        >>> need = Footprint(10, 1, 40, 80, 0, 8, 200, 40, 500, 4_000_000, 3_000_000)
        >>> for line in describe(need):
        ...     print(line)
        memory: 500 B in all for 10 parameters (40 B), optimizer 80 B, probes 0 B, data 8 B; \
workspace 200 B, for measuring 40 B more
        work: 4 MFLOP per step, 3 MFLOP more where all probes measure
    """
    names = ("params", "method", "probes", "data", "workspace", "measuring", "peak")
    size = {name: _with_unit(getattr(need, name), 1024, "B KiB MiB GiB TiB") for name in names}
    work, more = (
        _with_unit(count, 1000, "FLOP kFLOP MFLOP GFLOP TFLOP PFLOP")
        for count in (need.flops, need.measuring_flops)
    )
    runs = "" if need.runs == 1 else f", {need.runs} runs at a time"
    return [
        f"memory: {size['peak']} in all for {need.parameters:,} parameters"
        f" ({size['params']}{runs}), optimizer {size['method']}, probes {size['probes']},"
        f" data {size['data']}; workspace {size['workspace']},"
        f" for measuring {size['measuring']} more",
        f"work: {work} per step, {more} more where all probes measure",
    ]


def _with_unit(number: float, base: int, units: str) -> str:
    """A size to three digits in the unit that suits it."""
    *smaller, largest = units.split()
    for unit in smaller:
        if number < base:
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"
        number /= base
    return f"{number:.3g} {largest}"


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of the matrix products and convolutions in a program.

    They are nearly all the work of a network; element-wise operations do not count. Loops count as
    often as they turn (``jax.lax.scan``), all branches of a condition count. The compiler's own
    figure, ``compiled.cost_analysis()``, counts a loop once, and leaves out what it found to be
    computed twice.

    Args:
        function: any traceable function.
        *arguments: arrays or their shapes (``jax.ShapeDtypeStruct``).

    Example:
        >>> import jax.numpy as jnp
        >>> flops(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5)))
        60
    """
    program = jax.make_jaxpr(function)(*arguments)
    return sum(
        times * _WORK[equation.primitive.name](equation)
        for equation, times in equations(program)
        if equation.primitive.name in _WORK
    )


def _matrix_product(equation: Any) -> int:
    """Each entry of the result is a sum of products over the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, result = equation.invars[0].aval, equation.outvars[0].aval
    return 2 * result.size * math.prod(left.shape[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    """Each entry of the result is a sum over one output channel's kernel."""
    kernel, result = equation.invars[1].aval, equation.outvars[0].aval
    channels = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * result.size * kernel.size // channels


_WORK = {"dot_general": _matrix_product, "conv_general_dilated": _convolution}
_ONE = Span(1)


class _Step(NamedTuple):
    """One step of the compiled program, in shapes."""

    program: Program
    state: TrainState
    data: Data

    @property
    def arguments(self) -> tuple[TrainState, Data, Array | jax.ShapeDtypeStruct]:
        return self.state, self.data, jax.ShapeDtypeStruct((), np.int32)


def _step(
    problem: Problem, method: Method, runs: Runs, probes: tuple[Probe, ...], layout: Layout
) -> _Step:
    blocks = layout.blocks or 1
    mesh = device_mesh(jax.local_devices()[:1])
    static = (method, probes, (), None, jax.random.key_impl(runs.key), layout, mesh)
    program = Program(*problem[:3], *static)

    def of_shape(leaf: Any, *leading: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*leading, *leaf.shape[1:]), leaf.dtype)

    data = jax.eval_shape(lambda: dict(problem.data))
    rows = jax.tree.map(lambda leaf: of_shape(leaf, layout.width), plain(runs))
    block = jax.eval_shape(functools.partial(fresh_block, program), rows, data)
    group = jax.tree.map(lambda leaf: of_shape(leaf, 1, blocks, layout.width), block)
    return _Step(program, group, data)


def _compile(step: _Step) -> Any:
    advance = compiled(advance_group, ("program", "span"), step.program.layout.compiler_options)
    return advance.lower(step.program, _ONE, *step.arguments).compile()


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
