"""The decay of Adam's preconditioner, stage two of a loss spike (SPIKE, arXiv 2506.04805).

Adam's second moment obeys v_t = b2 v_{t-1} + (1 - b2) g_t². Once g² is far below v, nothing is left
of this but v ~ b2^t: the preconditioner 1/sqrt(v) grows on its own, whatever the gradient does,
until the step is too large. The recursion is linear, so sums of v and g² over a layer obey it too.

This is NumPy, for records of one run.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


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
) -> int:
    """The first step at which g² is under ``ratio`` times the second moment; -1 if it never is.

    Args:
        squared_gradient: g² summed over a layer, per step.
        second_moment: v̂ (or v) summed over the same layer.
        ratio: what counts as far below.

    Example:
        >>> onset(np.array([4.0, 2.0, 0.1]), np.array([4.0, 3.0, 2.0]))
        2
    """
    below = np.flatnonzero(squared_gradient < ratio * second_moment)
    return int(below[0]) if below.size else -1


def fit(
    squared_gradient: Float[np.ndarray, " steps"],
    second_moment: Float[np.ndarray, " steps"],
    ratio: float = 0.1,
) -> Decay:
    """The decay of v per step over the longest stretch on which g² stays under ``ratio`` v.

    A least-squares line through log v. By the recursion the factor lies between b2 and about
    b2 + ratio (1 - b2), and is b2 itself where the gradient has no part in it.

    Args:
        squared_gradient: g² summed over a layer, per step.
        second_moment: v summed over the same layer, without bias correction, which has a slope of
            its own: see :func:`uncorrected`.
        ratio: what counts as far below.

    Example:
        >>> factor, first, last = fit(np.zeros(50), 0.9 ** np.arange(50.0))
        >>> round(factor, 6), first, last
        (0.9, 0, 49)
    """
    first, last = _longest(np.flatnonzero(squared_gradient < ratio * second_moment))
    if last - first < 2:
        return Decay(np.nan, -1, -1)
    steps = np.arange(first, last + 1)
    slope, _ = np.polyfit(steps - first, np.log(second_moment[first : last + 1]), deg=1)
    return Decay(float(np.exp(slope)), first, last)


def _longest(steps: Int[np.ndarray, " some"]) -> tuple[int, int]:
    """First and last of the longest run of consecutive numbers; (0, -1) if there are none."""
    if steps.size == 0:
        return 0, -1
    breaks = np.flatnonzero(np.diff(steps) > 1)
    firsts = steps[np.concatenate([[0], breaks + 1])]
    lasts = steps[np.concatenate([breaks, [len(steps) - 1]])]
    best = np.argmax(lasts - firsts)
    return int(firsts[best]), int(lasts[best])
