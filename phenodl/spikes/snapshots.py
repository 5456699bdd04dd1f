"""Adam's state at one step, in the terms of the theory of loss spikes.

What every curvature of :mod:`phenodl.spikes.curvatures` needs to know beside the Hessian: read from
the state of an optax chain after it has absorbed g_t, or from what a probe of the engine sees.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from phenodl.optim import adam
from phenodl.optim.adam import Adam
from phenodl.protocol import Hyper, Params, View

Settings = Callable[[Hyper], Adam]
"""Adam's hyper-parameters from those of a run, as a probe asks for them."""


class Snapshot(NamedTuple):
    """What the curvatures need to know of Adam at one step.

    Attributes:
        grads: g_t, zero on frozen parameters; like all trees here, shaped like the parameters.
        moment: the bias-corrected first moment m̂.
        diagonal: the preconditioner D, zero on frozen parameters.
        factor: f, the momentum factor.
        threshold: 2/η_t minus the weight decay, the bound on the preconditioned curvature.
    """

    grads: Params
    moment: Params
    diagonal: Params
    factor: Float[Array, ""]
    threshold: Float[Array, ""]


def snapshot(opt_state: PyTree, settings: Adam, grads: Params) -> Snapshot:
    """Reads Adam's state in the terms of the theory.

    Args:
        opt_state: state of an optax chain after it absorbed ``grads``.
        settings: the hyper-parameters the chain was built with.
        grads: the gradient at the current parameters.

    Raises:
        ValueError: if ``opt_state`` does not hold exactly one Adam state, or ``grads`` are not all
            float32 or all float64.

    Example:
        >>> import optax
        >>> tx, grads = optax.adam(0.1), jnp.array([3.0, -4.0])
        >>> with jax.numpy_dtype_promotion("standard"):
        ...     _, state = tx.update(grads, tx.init(grads))
        >>> now = snapshot(state, Adam(0.1), grads)
        >>> print(now.diagonal.round(3), now.factor.round(3), now.threshold)
        [0.333 0.25 ] 0.526 20.0
    """
    dtype = dtype_of(grads)
    count = jnp.asarray(adam.adam_state(opt_state).count)
    diagonal = adam.preconditioner(
        opt_state, b2=settings.b2, eps=settings.eps, eps_root=settings.eps_root
    )
    diagonal = unmasked(diagonal, grads)
    return Snapshot(
        grads=jax.tree.map(lambda d, g: jnp.where(d > 0, g, 0), diagonal, grads),
        moment=unmasked(adam.first_moment(opt_state, b1=settings.b1), grads),
        diagonal=diagonal,
        factor=adam.momentum_factor(count, b1=settings.b1).astype(dtype),
        threshold=adam.stability_threshold(
            settings.learning_rate, count, weight_decay=settings.weight_decay
        ).astype(dtype),
    )


def unmasked(tree: PyTree, like: Params) -> Params:
    """A view of Adam's state with zeros for the parameters that a mask keeps from Adam.

    Args:
        tree: shaped like the parameters but for ``optax.MaskedNode`` where they are masked.
        like: shaped like all parameters.

    Example:
        >>> import optax
        >>> unmasked([jnp.ones(2), optax.MaskedNode()], [jnp.ones(2), jnp.ones(1)])
        [Array([1., 1.], dtype=float32), Array([0.], dtype=float32)]
    """

    def fill(node: PyTree, like: Params) -> Params:
        return jax.tree.map(jnp.zeros_like, like) if adam.is_masked(node) else node

    return jax.tree.map(fill, tree, like, is_leaf=adam.is_masked)


def dtype_of(tree: Params) -> jnp.dtype:
    """The one dtype of parameters or gradients.

    Half precision cannot tell 2/η from a curvature one part in a hundred above it.

    Raises:
        ValueError: if they are not all float32 or all float64, or there are none.

    Example:
        >>> dtype_of([jnp.ones(2), jnp.ones(1)])
        dtype('float32')
    """
    found = {jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)}
    if found not in ({jnp.dtype("float32")}, {jnp.dtype("float64")}):
        names = ", ".join(sorted(dtype.name for dtype in found)) or "none"
        raise ValueError(
            f"parameters must be all float32 or all float64 for curvatures; got {names}"
        )
    return found.pop()


def refuse_blocks(view: View) -> None:
    """For probes that see one run at a time.

    Raises:
        ValueError: if the view is one of a block of runs.
    """
    if jnp.ndim(view.objective.loss):
        raise ValueError("probes of spikes see one run at a time; use Layout(run_axis=0)")
