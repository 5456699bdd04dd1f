"""Measurements that fit any problem and method. Those of a study live with the study."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array

from phenodl.protocol import Probe, View


def loss(every: int = 1) -> Probe:
    """Records ``loss``, the loss at θ_t on the batch of step t."""
    return value("loss", lambda view: view.objective.loss, every)


def grad_norm(every: int = 1) -> Probe:
    """Records ``grad_norm``, the Euclidean norm of the whole gradient."""
    return value("grad_norm", lambda view: optax.tree.norm(view.objective.grads), every)


def value(
    name: str,
    function: Callable[[View], Array],
    every: int = 1,
    emit: Literal["step", "chunk"] = "step",
) -> Probe:
    """Records ``function(view)``, an array, under one name.

    Args:
        name: of the variable in the results.
        function: ``function(view) -> array``.
        every: measure at every so many steps.
        emit: ``"step"`` or ``"chunk"``, see :class:`phenodl.protocol.Probe`.
    """

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {name: jnp.asarray(function(view))}

    return Probe(measure, every=every, emit=emit)
