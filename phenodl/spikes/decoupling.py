"""The decay of Adam's preconditioner, stage two of a loss spike (SPIKE, arXiv 2506.04805).

Adam's second moment obeys v_t = b2 v_{t-1} + (1 - b2) g_t². Once g² is far below v, the two are
decoupled: nothing is left of the recursion but v ~ b2^t, and the preconditioner 1/sqrt(v) grows on
its own, whatever the gradient does, until the step is too large. The recursion is linear, so sums
of v and g² over a layer obey it too, and layers decouple one by one.

:func:`moments_probe` records both sums while training goes on. The rest is NumPy, for records of
one run.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from phenodl.optim import adam
from phenodl.protocol import Params, Probe, View
from phenodl.spikes.snapshots import Settings, refuse_blocks, unmasked


class Decay(NamedTuple):
    """An exponential decay fitted to a stretch of steps.

    Attributes:
        factor: by which the quantity changes per step; NaN where there was nothing to fit.
        first: step of the stretch; -1 where there is none.
        last: step of the stretch, inclusive; -1 where there is none.
    """

    factor: float
    first: int
    last: int


class Decoupling(NamedTuple):
    """How g² and v part, layer by layer.

    Attributes:
        onset: step at which g² falls under a tenth (``ratio``) of v̂; -1 where it never does.
        factor: the fitted decay of v per step, see :func:`fit`; NaN where nothing was fitted.
        first: step of the fitted stretch; -1 where there is none.
        last: step of the fitted stretch, inclusive; -1 where there is none.
    """

    onset: Int[np.ndarray, " layer"]
    factor: Float[np.ndarray, " layer"]
    first: Int[np.ndarray, " layer"]
    last: Int[np.ndarray, " layer"]


def layer_names(params: Params, depth: int = 1) -> tuple[str, ...]:
    """The names of the layers, in the order in which everything per layer is recorded.

    Args:
        params: of the model; arrays or their shapes.
        depth: the number of keys that name a layer, as in ``phenodl.optim.adam.layer_sums``; if it
            is that of the deepest leaf or more, every leaf is a layer of its own.

    Raises:
        ValueError: if ``depth`` is below 1.

    Example:
        >>> params = {"in": {"w": jnp.ones(3), "b": jnp.ones(1)}, "out": {"w": jnp.ones(3)}}
        >>> layer_names(params), layer_names(params, depth=2)
        (('in', 'out'), ('in/b', 'in/w', 'out/w'))
    """
    # The walk of the sums themselves, on a tree of nothing but zeros.
    return tuple(adam.layer_sums(jax.tree.map(lambda _: np.zeros(()), params), depth=depth))


def moments_probe(settings: Settings = adam.from_hyper, depth: int = 1, every: int = 1) -> Probe:
    """Records ``squared_gradient`` and ``second_moment``, g² and v̂ summed over each layer.

    Both have one entry per layer, in the order of :func:`layer_names`. Parameters that a mask keeps
    from Adam have a v̂ of zero.

    Args:
        settings: Adam's hyper-parameters from those of a run, as for
            ``phenodl.spikes.curvatures.gradient_probe``.
        depth: the number of keys that name a layer.
        every: measure at every so many steps.

    Raises:
        ValueError: if ``depth`` is below 1.

    Example:
        >>> moments_probe(depth=2, every=5).every
        5
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1; it is {depth}")

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        refuse_blocks(view)
        grads = view.objective.grads
        second = adam.second_moment(view.method_state, b2=settings(view.hyper).b2)
        moments = {
            "squared_gradient": jax.tree.map(jnp.square, grads),
            "second_moment": unmasked(second, grads),
        }
        return state, {
            name: jnp.stack(list(adam.layer_sums(tree, depth=depth).values()))
            for name, tree in moments.items()
        }

    return Probe(measure, every=every)


def uncorrected(
    second_moment: Float[np.ndarray, "*runs steps"], b2: float
) -> Float[np.ndarray, "*runs steps"]:
    """The moving average v from the bias-corrected v̂ = v / (1 - b2^(t+1)) of steps t = 0, 1, ...

    Args:
        second_moment: v̂ after the gradient of its step was absorbed.
        b2: decay of the second moment.

    Example:
        >>> uncorrected(np.ones(3), b2=0.5).tolist()
        [0.5, 0.75, 0.875]
    """
    count = np.arange(1, second_moment.shape[-1] + 1)
    return second_moment * (1 - b2**count)


def onset(
    squared_gradient: Float[np.ndarray, " steps"],
    second_moment: Float[np.ndarray, " steps"],
    ratio: float = 0.1,
    *,
    since: int = 0,
    lasting: int = 1,
) -> int:
    """The first step at which g² is under ``ratio`` times the second moment; -1 if it never is.

    Args:
        squared_gradient: g² summed over a layer, per step.
        second_moment: v̂ (or v) summed over the same layer.
        ratio: what counts as far below.
        since: the step at which to begin looking, such as the end of the spike before.
        lasting: steps in a row, from that one on, for which it must stay so. More than one keeps
            out a gradient that momentum swings through zero, or that of one lucky mini-batch.

    Example:
        >>> squares, second = np.array([4.0, 0.1, 2.0, 0.1, 0.1]), np.full(5, 4.0)
        >>> [onset(squares, second, lasting=steps) for steps in (1, 2, 3)]
        [1, 3, -1]
    """
    below = squared_gradient[since:] < ratio * second_moment[since:]
    firsts, lasts = _stretches(below)
    long = firsts[lasts - firsts + 1 >= lasting]
    return since + int(long[0]) if long.size else -1


def fit(
    squared_gradient: Float[np.ndarray, " steps"],
    second_moment: Float[np.ndarray, " steps"],
    ratio: float = 0.1,
    *,
    since: int = 0,
    until: int | None = None,
) -> Decay:
    """The decay of v per step over the longest stretch on which g² stays under ``ratio`` v.

    A least-squares line through log v. The window is fixed by this rule, before anything is seen of
    the fit. By the recursion the factor lies between b2 and about b2 + ratio (1 - b2), and is b2
    itself where the gradient has no part in it.

    Args:
        squared_gradient: g² summed over a layer, per step.
        second_moment: v summed over the same layer, without bias correction, which has a slope of
            its own: see :func:`uncorrected`.
        ratio: what counts as far below.
        since: first step to look at.
        until: the step to stop before, such as the one where the curvature passes its threshold;
            None looks to the end of the record.

    Returns:
        The decay, its stretch in steps of the record. Stretches of fewer than three steps are not
        fitted.

    Example:
        >>> factor, first, last = fit(np.zeros(50), 0.9 ** np.arange(50.0), since=10)
        >>> round(factor, 6), first, last
        (0.9, 10, 49)
    """
    squares, second = squared_gradient[since:until], second_moment[since:until]
    firsts, lasts = _stretches(squares < ratio * second)
    longest = np.argmax(lasts - firsts) if firsts.size else 0
    if firsts.size == 0 or lasts[longest] - firsts[longest] < 2:
        return Decay(np.nan, -1, -1)
    first, last = int(firsts[longest]), int(lasts[longest])
    slope, _ = np.polyfit(np.arange(last - first + 1), np.log(second[first : last + 1]), deg=1)
    return Decay(float(np.exp(slope)), since + first, since + last)


def by_layer(
    squared_gradient: Float[np.ndarray, "steps layer"],
    second_moment: Float[np.ndarray, "steps layer"],
    b2: float,
    *,
    ratio: float = 0.1,
    since: int = 0,
    until: int | None = None,
    lasting: int = 1,
) -> Decoupling:
    """When each layer decouples, and how its v decays from then on.

    Args:
        squared_gradient: g² summed over each layer, as :func:`moments_probe` records it at every
            step.
        second_moment: v̂ summed over each layer, bias-corrected.
        b2: decay of the second moment.
        ratio: what counts as far below.
        since: first step to look at, such as the end of the spike before.
        until: the step to stop before, such as the one where the curvature passes its threshold.
        lasting: as in :func:`onset`.

    Returns:
        One entry per layer. The onset holds g² against v̂, the fit is one of v.

    Example:
        >>> count, loud = np.arange(1, 41)[:, None], np.array([5, 40])
        >>> squares = (count <= loud).astype(float)  # gradients of 1 in so many steps, then of 0
        >>> v = (1 - 0.9 ** np.minimum(count, loud)) * 0.9 ** np.maximum(count - loud, 0)
        >>> found = by_layer(squares, v / (1 - 0.9**count), b2=0.9)
        >>> found.onset.tolist(), found.factor.round(6).tolist(), found.first.tolist()
        ([5, -1], [0.9, nan], [5, -1])
    """
    squares, corrected = np.asarray(squared_gradient, float).T, np.asarray(second_moment, float).T
    onsets = [
        onset(*layer, ratio, since=since, lasting=lasting)
        for layer in zip(squares[:, :until], corrected[:, :until], strict=True)
    ]
    fits = [
        fit(*layer, ratio, since=since, until=until)
        for layer in zip(squares, uncorrected(corrected, b2), strict=True)
    ]
    return Decoupling(np.array(onsets), *(np.array(column) for column in zip(*fits, strict=True)))


def _stretches(
    holds: Bool[np.ndarray, " steps"],
) -> tuple[Int[np.ndarray, " stretch"], Int[np.ndarray, " stretch"]]:
    """First and last steps of the stretches on which something holds."""
    edges = np.diff(np.concatenate([[False], holds, [False]]).astype(int))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
