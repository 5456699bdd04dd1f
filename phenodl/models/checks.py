"""What the models of sequences refuse alike, before anything is compiled."""

from phenodl.models.losses import require_smoothing


def require_model(sizes: tuple[int | None, ...], smoothing: float) -> None:
    """Refuses a model or a loss that there cannot be.

    Args:
        sizes: of the model, a named tuple; None where one is left to its default.
        smoothing: of the labels.

    Raises:
        ValueError: a size is below 1, or ``smoothing`` is not in [0, 1).

    Example:
        >>> require_model((64, 2), smoothing=0.1)
    """
    if min(size for size in sizes if size is not None) < 1:
        raise ValueError(f"sizes must be positive, got {sizes}")
    require_smoothing(smoothing)


def require_batch_size(batch_size: int, sequences: int) -> None:
    """Refuses a batch that is empty, or larger than the data.

    Args:
        batch_size: sequences per step.
        sequences: how many there are.

    Raises:
        ValueError: ``batch_size`` is not in [1, sequences].

    Example:
        >>> require_batch_size(8, sequences=512)
    """
    if not 1 <= batch_size <= sequences:
        raise ValueError(
            f"batch_size must be in [1, {sequences}], the number of sequences; got {batch_size}"
        )
