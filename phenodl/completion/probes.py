"""What a training records for a study of completion: the learned matrix, and when to stop."""

import functools

from jaxtyping import Array

from phenodl.models import factorization
from phenodl.protocol import Probe, Stop, View


@functools.cache
def solution() -> Probe:
    """Records ``W``, the product of the factors, and ``mean_loss``, per observed entry.

    One value per run, at its end.

    Example:
        >>> solution().emit
        'end'
    """

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, {"W": factorization.product(view.params), "mean_loss": _mean_loss(view)}

    return Probe(measure, emit="end")


@functools.cache
def fitted(tolerance: float) -> Stop:
    """Ends a run at the first step where its loss per observed entry is at most ``tolerance``.

    Example:
        >>> stop = fitted(1e-20)
    """
    return lambda view: _mean_loss(view) <= tolerance


def _mean_loss(view: View) -> Array:
    return factorization.mean_loss(view.objective.loss, view.batch["mask"])
