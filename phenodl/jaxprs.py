"""Traced programs as data: the equations of a jaxpr, those inside of loops and branches too."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def equations(jaxpr: Jaxpr | ClosedJaxpr, times: int = 1) -> Iterator[tuple[JaxprEqn, int]]:
    """All equations of a program, and how often each is executed.

    Args:
        jaxpr: of ``jax.make_jaxpr(function)(...)`` or ``jax.jit(function).trace(...)``.
        times: how often the program itself is executed.

    Returns:
        Pairs. A scan executes its body as often as it is long. All branches of a condition count,
        and a loop of unknown length counts as one turn.

    Example:
        >>> loop = lambda x: jax.lax.scan(lambda y, _: (y * y, None), x, length=5)[0]
        >>> found = equations(jax.make_jaxpr(loop)(2.0))
        >>> [(equation.primitive.name, times) for equation, times in found]
        [('scan', 1), ('mul', 5)]
    """
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation, times
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        for part in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(part):
                yield from equations(part, times * turns)


def _is_jaxpr(part: Any) -> bool:
    return isinstance(part, Jaxpr | ClosedJaxpr)
