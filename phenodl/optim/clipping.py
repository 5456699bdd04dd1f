"""Adam that clips by its own second moment: remedies for spikes from the literature.

Both compare the gradient with the v that Adam has, and so bound the step where v is too small for
the gradient that comes: StableAdamW (arXiv 2304.13013) shortens the step of a whole tensor, SPAM
(arXiv 2501.06842) cuts single coordinates of the gradient and forgets both moments from time to
time. They are what is compared with the controllers of :mod:`phenodl.spikes.control`. With an
infinite threshold they are ``optax.adam``: to the last bit where one operation runs at a time;
compiled, what is done around the moments may change which products and sums XLA contracts, and with
that the last digits.

optax has the other remedies: ``amsgrad``, ``clip_by_global_norm``, ``adaptive_grad_clip``, and the
schedules. (Its ``clip_by_block_rms`` bounds the size of m̂ / sqrt(v̂); StableAdamW goes by that of
g / sqrt(v̂), which jumps at once where m̂ lags.)

The state of each holds one ``optax.ScaleByAdamState``, which the views of :mod:`phenodl.optim.adam`
read. Hyper-parameters may be Python numbers or traced scalars.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from phenodl.optim import adam
from phenodl.optim.adam import LearningRate, Scalar

FIRST_SHARE = 0.01
"""Of the step, right after SPAM has forgotten the moments."""


class SpamState(NamedTuple):
    """State of SPAM.

    Attributes:
        adam: the moments; its ``count`` is that of the gradients since they were last forgotten.
        resets: how often they have been.
    """

    adam: optax.ScaleByAdamState
    resets: Int[Array, ""]


def stable_adamw(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    threshold: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """AdamW with update clipping: η of each tensor over max(1, RMS / threshold).

    RMS² is the mean over the tensor of g² / max(v̂, eps²), v̂ with g absorbed (Wortsman et al., arXiv
    2304.13013, Algorithm 2, where the threshold is 1; it is the d of Adafactor, arXiv 1804.04235).
    The weight decay is scaled along.

    Args:
        learning_rate: η, a number or a schedule.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to sqrt(v̂).
        threshold: of the RMS.
        weight_decay: coefficient of the decoupled weight decay, 0 for none.

    Returns:
        The optimizer. Its ``update`` raises a ValueError if the parameters are not given.

    Raises:
        ValueError: ``threshold`` is not positive.

    Example:
        >>> tx = stable_adamw(0.1)
        >>> state = tx.init(jnp.zeros(2))
        >>> for gradient in (1.0, 100.0):  # a gradient that v has not met
        ...     with jax.numpy_dtype_promotion("standard"):
        ...         updates, state = tx.update(jnp.full(2, gradient), state, jnp.zeros(2))
        >>> print(updates.round(4))  # Adam's is -0.075, the RMS 1.414
        [-0.0531 -0.0531]
    """
    _require_positive("threshold", threshold)
    plain = optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay),
    )

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        if params is None:
            raise ValueError("params must be given to update: update(grads, state, params)")
        grads = updates
        updates, state = plain.update(grads, state, params)
        second = adam.second_moment(state, b2=b2)

        def clip(moved: Array, g: Array, v: Array) -> Array:
            least = jnp.asarray(eps, v.dtype) ** 2
            rms = jnp.sqrt(jnp.mean(g**2 / jnp.maximum(v, least)))
            return moved / jnp.maximum(1, rms / jnp.asarray(threshold, rms.dtype))

        return jax.tree.map(clip, updates, grads, second), state

    clipped = optax.GradientTransformation(plain.init, update)
    return optax.chain(clipped, optax.scale_by_learning_rate(learning_rate))


def spam(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    threshold: Scalar = 5000.0,
    reset_every: Scalar = 500,
    warmup: Scalar = 150,
) -> optax.GradientTransformation:
    """Spike-aware Adam with momentum reset, all momentum kept dense.

    A coordinate of the gradient whose square exceeds ``threshold`` v̂, v̂ before g is absorbed,
    becomes sign(g) sqrt(threshold v̂). Every ``reset_every`` steps Adam begins anew, with zero
    moments, and its step rises along a cosine over the next ``warmup`` steps (Huang et al., arXiv
    2501.06842, whose values are the defaults).

    Here v is bias-corrected, so that a threshold means the same at every age of the moments. A
    coordinate whose v is zero is not clipped: the first gradient after a reset passes, and so does
    the first one that is not zero, of an embedding that was not used before or a unit that was
    dead. That is our reading: clipped to sqrt(threshold 0), such a coordinate would never move.

    A reset sets Adam's ``count`` to zero as well. Views, monitors and guards that read a schedule
    of the learning rate at that count are wrong from the first reset on; that of ``learning_rate``
    here has a count of its own, of all steps.

    Args:
        learning_rate: η, a number or a schedule.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to sqrt(v̂).
        threshold: of g² / v̂.
        reset_every: steps between two resets; infinity for none.
        warmup: steps of rise after each reset; the very first steps are whole ones.

    Raises:
        ValueError: ``threshold`` is not positive, ``reset_every`` below 1 or ``warmup`` negative.

    Example:
        >>> tx = spam(0.1, threshold=4.0)
        >>> state = tx.init(jnp.zeros(2))
        >>> for gradient in (1.0, -100.0):  # -100 is taken for -sqrt(4) of what v has met
        ...     with jax.numpy_dtype_promotion("standard"):
        ...         _, state = tx.update(jnp.full(2, gradient), state)
        >>> print(adam.second_moment(state, b2=0.999).round(2))  # near (1 + 4) / 2
        [2.5 2.5]
    """
    _require_positive("threshold", threshold)
    if isinstance(reset_every, int | float) and not reset_every >= 1:
        raise ValueError(f"reset_every must be at least 1, got {reset_every}")
    if isinstance(warmup, int | float) and not warmup >= 0:
        raise ValueError(f"warmup must be at least 0, got {warmup}")
    plain = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)

    def init(params: optax.Params) -> SpamState:
        return SpamState(_moments(plain.init(params)), jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SpamState]:
        assert isinstance(state, SpamState)
        grads, (before, resets) = updates, state
        due = _number(before.count) >= reset_every
        before = jax.tree.map(lambda leaf: jnp.where(due, 0, leaf), before)
        resets = resets + due

        second = adam.second_moment(before, b2=b2)  # NaN right after a reset, which is not above 0

        def clip(g: Array, v: Array) -> Array:
            most = jnp.asarray(threshold, g.dtype) * v.astype(g.dtype)
            return jnp.where((v > 0) & (g**2 > most), jnp.sign(g) * jnp.sqrt(most), g)

        updates, after = plain.update(jax.tree.map(clip, grads, second), before, params)
        share = _rise(_number(before.count), warmup)
        updates = jax.tree.map(
            lambda u: jnp.where(resets > 0, share.astype(u.dtype) * u, u), updates
        )
        return updates, SpamState(_moments(after), resets)

    clipped = optax.GradientTransformation(init, update)
    return optax.chain(clipped, optax.scale_by_learning_rate(learning_rate))


def _rise(age: Float[Array, ""], warmup: Scalar) -> Float[Array, ""]:
    """The share of a step, ``age`` steps after the first one since a reset: half a cosine up."""
    passed = jnp.where(age < warmup, age / jnp.maximum(_number(warmup), 1), 1)
    return 1 - (1 - FIRST_SHARE) * (1 + jnp.cos(jnp.pi * passed)) / 2


def _number(value: Any) -> Float[Array, ""]:
    return jnp.asarray(value, jnp.result_type(float))


def _moments(state: optax.OptState) -> optax.ScaleByAdamState:
    return adam.adam_state(state)


def _require_positive(name: str, value: Scalar) -> None:
    """Of numbers only: a traced one is a hyper-parameter of the sweep."""
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")
