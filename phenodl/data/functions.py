"""Target functions for regression: samples of known functions, made with NumPy."""

import numpy as np
from jaxtyping import Float


def sine_mixture(
    n: int = 100, dtype: np.typing.DTypeLike = np.float32
) -> tuple[Float[np.ndarray, "n 1"], Float[np.ndarray, "n 1"]]:
    """The function sin x + sin 4x at evenly spaced points of [-pi, pi], both ends included.

    Args:
        n: points.
        dtype: of the arrays.

    Returns:
        Inputs and targets.

    Raises:
        ValueError: ``n`` is less than 1.

    Example:
        >>> inputs, targets = sine_mixture(5)
        >>> inputs.shape, np.abs(targets).max() < 1.1
        ((5, 1), np.True_)
    """
    _check(n=n)
    x = np.linspace(-np.pi, np.pi, n)[:, None]
    return x.astype(dtype), (np.sin(x) + np.sin(4 * x)).astype(dtype)


def quadratic_target(
    seed: int, n: int = 200, dimension: int = 50, dtype: np.typing.DTypeLike = np.float64
) -> tuple[Float[np.ndarray, "n dimension"], Float[np.ndarray, "n 1"]]:
    """The function w.x + x^T diag(v) x at standard normal points, with random w and v.

    The entries of w and v have standard deviation 1 / sqrt(dimension), so that the linear and the
    quadratic part are of order one whatever the dimension (SPIKE, arXiv 2506.04805).

    Args:
        seed: of points and coefficients.
        n: points.
        dimension: of a point.
        dtype: of the arrays.

    Returns:
        Inputs and targets.

    Raises:
        ValueError: ``n`` or ``dimension`` is less than 1.

    Example:
        >>> inputs, targets = quadratic_target(seed=0)
        >>> inputs.shape, targets.shape
        ((200, 50), (200, 1))
    """
    _check(n=n, dimension=dimension)
    random = np.random.default_rng(seed)
    linear, quadratic = random.standard_normal((2, dimension)) / np.sqrt(dimension)
    x = random.standard_normal((n, dimension))
    y = x @ linear + x**2 @ quadratic
    return x.astype(dtype), y[:, None].astype(dtype)


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
