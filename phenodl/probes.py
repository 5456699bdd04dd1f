"""Measurements that fit any problem and method. Those of a study live with the study."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from phenodl.protocol import Probe, View


def loss(every: int = 1) -> Probe:
    """Records ``loss``, the loss at θ_t on the batch of step t."""
    return value("loss", lambda view: view.objective.loss, every)


def grad_norm(every: int = 1) -> Probe:
    """Records ``grad_norm``, the Euclidean norm of the whole gradient."""

    def norm(view: View) -> Array:
        runs = view.objective.loss.ndim  # 1 where a block of runs lies along the last axis
        squares = [
            jnp.sum(leaf**2, axis=tuple(range(leaf.ndim - runs)))
            for leaf in jax.tree.leaves(view.objective.grads)
        ]
        return jnp.sqrt(sum(squares))

    return value("grad_norm", norm, every)


def value(
    name: str,
    function: Callable[[View], Array],
    every: int = 1,
    emit: Literal["step", "chunk", "end"] = "step",
) -> Probe:
    """Records ``function(view)``, an array, under one name.

    Args:
        name: of the variable in the results.
        function: ``function(view) -> array``.
        every: measure at every so many steps.
        emit: ``"step"``, ``"chunk"`` or ``"end"``, see :class:`phenodl.protocol.Probe`.
    """

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {name: jnp.asarray(function(view))}

    return Probe(measure, every=every, emit=emit)
