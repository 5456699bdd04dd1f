"""A large batch in the memory of a small one: micro-batches one after another.

The loss of a batch is the mean over its micro-batches, and so are its derivatives of every order.
Only one micro-batch's activations need to exist at a time, if what a derivative needs of the others
is computed again when its turn comes (rematerialisation: Chen et al., arXiv 1604.06174).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from phenodl.protocol import Params

BatchLoss = Callable[[Params, Any], Float[Array, ""]]


def accumulate(loss: BatchLoss, parts: int, *, remat: bool = True) -> BatchLoss:
    """The same loss, evaluated over equal micro-batches in turn.

    Value, gradient, quadratic forms and Hessian products equal those of the whole batch to
    rounding, for every loss that is a mean over the examples. These must lie along the leading
    axis of every array of the batch: in :mod:`phenodl.models.cnn`, the images lie along the last.

    Args:
        loss: ``loss(params, batch) -> scalar``, a mean over the examples.
        parts: number of micro-batches; it must divide the batch.
        remat: compute activations again in the backward pass instead of keeping those of all
            micro-batches: about a third more work for a gradient. Values and quadratic forms keep
            nothing either way.

    Returns:
        A function like ``loss``. It raises a ValueError if the batch's arrays differ in their
        leading axis or cannot be divided into so many parts.

    Raises:
        ValueError: if ``parts`` is below 1.

    Example:
        >>> loss = lambda slope, batch: ((slope * batch["x"] - batch["y"]) ** 2).mean()
        >>> batch = {"x": jnp.arange(4.0), "y": jnp.ones(4)}
        >>> whole, micro = loss(jnp.array(2.0), batch), accumulate(loss, 2)(jnp.array(2.0), batch)
        >>> float(whole), float(micro)
        (9.0, 9.0)
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1, got {parts}")
    # Between the iterations of a loop there is no common subexpression to keep apart.
    one = jax.checkpoint(loss, prevent_cse=False) if remat else loss

    def accumulated(params: Params, batch: Any) -> Float[Array, ""]:
        micro = micro_batches(batch, parts)
        return jax.lax.map(lambda part: one(params, part), micro).mean()

    return accumulated


def micro_batches(batch: PyTree[Array], parts: int) -> PyTree[Array]:
    """The batch as equal micro-batches, consecutive examples each.

    Args:
        batch: arrays that all have the examples as their leading axis.
        parts: number of micro-batches.

    Returns:
        The arrays with the leading axis n split into (parts, n / parts).

    Raises:
        ValueError: if the leading axes differ, or ``parts`` does not divide them.

    Example:
        >>> micro_batches(jnp.arange(6), 3).tolist()
        [[0, 1], [2, 3], [4, 5]]
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(sizes) != 1 or () in sizes:
        found = ", ".join(sorted(str(size[0]) if size else "none" for size in sizes))
        raise ValueError(f"batch must be arrays with one leading axis in common; found {found}")
    (size,) = sizes.pop()
    if parts < 1 or size % parts:
        raise ValueError(f"parts must divide the batch of {size}, got {parts}")
    split = lambda leaf: jnp.asarray(leaf).reshape(parts, size // parts, *leaf.shape[1:])
    return jax.tree.map(split, batch)
