"""What a training records for a study of completion: the learned matrix, and when to stop."""

import functools
from collections.abc import Callable

from jaxtyping import Array, Float

from phenodl.models import factorization
from phenodl.protocol import Params, Probe, Stop, View

MeanLoss = Callable[[View], Float[Array, "*runs"]]
"""A measure of the fit: the loss per observed entry of each run in view."""


def mean_loss(view: View) -> Float[Array, "*runs"]:
    """The loss of the step per observed entry, where every step sees all of them."""
    return factorization.mean_loss(view.objective.loss, view.batch["mask"])


@functools.cache
def solution(
    product: Callable[[Params], Array] = factorization.product, mean_loss: MeanLoss = mean_loss
) -> Probe:
    """Records ``W``, the product of the factors, and ``mean_loss``, per observed entry.

    One value per run, at its end.

    Args:
        product: the matrix that the parameters stand for.
        mean_loss: of a view.

    Example:
        >>> solution().emit
        'end'
    """
    return _at_end(lambda view: {"W": product(view.params), "mean_loss": mean_loss(view)})


@functools.cache
def factors() -> Probe:
    """Records ``A`` and ``B``, the factors, and ``mean_loss``, one value per run, at its end.

    Example:
        >>> factors().emit
        'end'
    """
    return _at_end(
        lambda view: {"A": view.params.A, "B": view.params.B, "mean_loss": mean_loss(view)}
    )


@functools.cache
def fitted(tolerance: float, mean_loss: MeanLoss = mean_loss) -> Stop:
    """Ends a run at the first step where its loss per observed entry is at most ``tolerance``.

    Example:
        >>> stop = fitted(1e-20)
    """
    return lambda view: mean_loss(view) <= tolerance


def _at_end(values: Callable[[View], dict[str, Array]]) -> Probe:
    def measure(state: tuple[()], view: View) -> tuple[tuple[()], dict[str, Array]]:
        return state, values(view)

    return Probe(measure, emit="end")
