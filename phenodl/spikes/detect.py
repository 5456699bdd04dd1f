"""Finds loss spikes: the loss leaves its running minimum by some decades and then comes back.

The level e_t is the highest log10 loss of the last 2/(1 - b1) steps, which hides the ring-down of
momentum. The base is the lowest level since the last spike's end. A spike is triggered when the
level stands more than ``rise`` decades above the base, peaks where the loss is highest, and ends
when the level has lost half of its rise.

The detector is causal: :func:`update` looks at one loss at a time and fits into any loop;
:func:`detect` runs it over a recorded curve and lists the spikes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Scalar = float | Float[Array, ""]


class Detector(NamedTuple):
    """What the detector remembers between two steps.

    Attributes:
        recent: log10 excess losses of the last steps, oldest first.
        base: the level that a spike rises from; frozen while a spike lasts.
        height: of the current or the last spike so far, in decades above its base; or NaN.
        peak_step: where that was; -1 before the first spike.
        inside: a spike has been triggered and has not ended.
        alive: no loss was NaN or infinite so far; afterwards nothing changes any more.
        step: how many losses were seen.
    """

    recent: Float[Array, " window"]
    base: Float[Array, ""]
    height: Float[Array, ""]
    peak_step: Int[Array, ""]
    inside: Bool[Array, ""]
    alive: Bool[Array, ""]
    step: Int[Array, ""]


class Observation(NamedTuple):
    """The detector's view of one step.

    Attributes:
        level: e_t, the highest log10 excess loss of the last steps.
        base: the running minimum of the level.
        triggered: a spike begins here.
        ended: a spike ends here.
        inside: in a spike, from its trigger to the step before its end.
        peak_step: the highest loss of the current or the last spike so far; -1 without any.
        height: its decades above the base; NaN without any.
    """

    level: Float[Array, "*step"]
    base: Float[Array, "*step"]
    triggered: Bool[Array, "*step"]
    ended: Bool[Array, "*step"]
    inside: Bool[Array, "*step"]
    peak_step: Int[Array, "*step"]
    height: Float[Array, "*step"]


class Spikes(NamedTuple):
    """The spikes of a curve, in order; unused places hold -1 and NaN.

    Attributes:
        count: how many there are, also when the table is too small for them.
        trigger: step at which each is triggered.
        peak: step of its highest loss.
        end: step at which it ends; -1 if the record ends before.
        height: of the peak above the base, in decades.
    """

    count: Int[Array, ""]
    trigger: Int[Array, " spike"]
    peak: Int[Array, " spike"]
    end: Int[Array, " spike"]
    height: Float[Array, " spike"]


def ring_down(b1: float) -> int:
    """Steps that the momentum of a spike takes to ring down, 2/(1 - b1).

    Raises:
        ValueError: ``b1`` is not in [0, 1).

    Example:
        >>> ring_down(0.9)
        20
    """
    if not 0 <= b1 < 1:
        raise ValueError(f"b1 must be in [0, 1), got {b1}")
    return round(2 / (1 - b1))


def log_excess(loss: Float[Array, "*any"], floor: Scalar = 0.0) -> Float[Array, "*any"]:
    """log10 of the loss above its floor, at least that of the smallest normal number.

    Args:
        loss: any shape.
        floor: the lowest loss there can be, such as the entropy of smoothed labels.

    Example:
        >>> print(log_excess(jnp.array([10.5, 0.5]), floor=0.5).round(1))
        [  1.  -37.9]
    """
    return jnp.log10(jnp.maximum(loss - floor, jnp.finfo(loss.dtype).tiny))


def trailing_mean(losses: Float[Array, " steps"], width: int = 10) -> Float[Array, " steps"]:
    """The mean over each step and those before it, ``width`` in all; fewer at the beginning.

    Mini-batch losses are smoothed so before spikes are looked for.

    Example:
        >>> trailing_mean(jnp.array([1.0, 3.0, 5.0, 7.0]), width=2).tolist()
        [1.0, 2.0, 4.0, 6.0]
    """
    window = jnp.ones(width, losses.dtype)
    steps = len(losses)
    seen = jnp.minimum(jnp.arange(1, steps + 1), width).astype(losses.dtype)
    return jnp.convolve(losses, window)[:steps] / seen


def detector(window: int, dtype: jnp.dtype | type = float) -> Detector:
    """A detector that has seen nothing yet.

    Args:
        window: steps that the level looks back, see :func:`ring_down`.
        dtype: of the losses to come.
    """
    lowest = jnp.asarray(-jnp.inf, dtype)
    return Detector(
        recent=jnp.full(window, lowest),
        base=-lowest,
        height=jnp.asarray(jnp.nan, dtype),
        peak_step=jnp.asarray(-1),
        inside=jnp.asarray(False),
        alive=jnp.asarray(True),
        step=jnp.asarray(0),
    )


def update(
    state: Detector, log_loss: Float[Array, ""], *, rise: Scalar = 0.3, start: int = 50
) -> tuple[Detector, Observation]:
    """Looks at the loss of one step.

    Args:
        state: of the detector.
        log_loss: log10 of the excess loss, see :func:`log_excess`.
        rise: decades above the base that make a spike.
        start: the step at which the base begins; the first steps of a training are too steep.

    Returns:
        The new state and what was seen.
    """
    alive = state.alive & jnp.isfinite(log_loss)
    recent = jnp.concatenate([state.recent[1:], log_loss[None]])
    level = jnp.max(recent)

    calm = (state.step >= start) & ~state.inside
    base = jnp.where(calm, jnp.minimum(state.base, level), state.base)
    triggered = calm & (level - base > rise)
    inside = state.inside | triggered
    higher = triggered | (inside & (log_loss - base > state.height))
    height = jnp.where(higher, log_loss - base, state.height)
    ended = inside & (level - base <= height / 2)

    after = Detector(
        recent=recent,
        base=jnp.where(ended, level, base),
        height=height,
        peak_step=jnp.where(higher, state.step, state.peak_step),
        inside=inside & ~ended,
        alive=alive,
        step=state.step + 1,
    )
    state = jax.tree.map(functools.partial(jnp.where, alive), after, state._replace(alive=alive))
    seen = Observation(
        level=jnp.where(alive, level, jnp.nan),
        base=jnp.where(alive, base, jnp.nan),
        triggered=alive & triggered,
        ended=alive & ended,
        inside=state.inside,
        peak_step=state.peak_step,
        height=state.height,
    )
    return state, seen


def detect(
    losses: Float[Array, " steps"],
    *,
    rise: Scalar = 0.3,
    b1: float = 0.9,
    start: int = 50,
    floor: Scalar = 0.0,
    max_spikes: int = 64,
) -> tuple[Spikes, Observation]:
    """All spikes of one loss curve; under ``jax.jit`` and ``jax.vmap`` those of many runs.

    From the first loss that is NaN or infinite on, nothing is detected; a spike that has begun
    then stays open.

    Args:
        losses: of the steps 0, 1, 2, ..., one at least.
        rise: decades above the base that make a spike.
        b1: decay of the optimizer's first moment, which sets the window of the level.
        start: the step at which the base begins.
        floor: the lowest loss there can be.
        max_spikes: size of the table.

    Returns:
        The table of spikes, and what the detector saw at each step.

    Raises:
        ValueError: ``b1`` is not in [0, 1), or ``losses`` are not a vector of floating numbers.

    Example:
        >>> losses = jnp.ones((2, 200)).at[0, 100:130].set(50.0)  # of two runs
        >>> find = jax.jit(jax.vmap(functools.partial(detect, max_spikes=2)))
        >>> spikes, _ = find(losses)
        >>> spikes.count.tolist(), spikes.trigger.tolist(), spikes.end.tolist()
        ([1, 0], [[100, -1], [-1, -1]], [[149, -1], [-1, -1]])
    """
    if losses.ndim != 1 or losses.size == 0 or not jnp.issubdtype(losses.dtype, jnp.floating):
        raise ValueError(
            "losses must be floating numbers, one for each of at least one step; got "
            f"{losses.dtype.name}{list(losses.shape)}"
        )
    # A window longer than the record looks back on all of it just the same.
    first = detector(min(ring_down(b1), len(losses)), losses.dtype)
    step = functools.partial(update, rise=rise, start=start)
    _, seen = jax.lax.scan(step, first, log_excess(losses, floor))

    (trigger,) = jnp.nonzero(seen.triggered, size=max_spikes, fill_value=-1)
    (end,) = jnp.nonzero(seen.ended, size=max_spikes, fill_value=-1)
    # The last step before the next spike knows the whole of this one.
    known = jnp.where(end < 0, len(losses) - 1, end)
    spikes = Spikes(
        count=jnp.sum(seen.triggered),
        trigger=trigger,
        peak=jnp.where(trigger < 0, -1, seen.peak_step[known]),
        end=end,
        height=jnp.where(trigger < 0, jnp.nan, seen.height[known]),
    )
    return spikes, seen
