"""Target functions for regression, in any dimension, made with NumPy.

:func:`sines`, :func:`polynomial` and :func:`steps` evaluate a function at given points, one row per
point. :func:`sine_mixture`, :func:`quadratic_target` and :func:`staircase` are whole samples of the
studies.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, DTypeLike

Points = Float[np.ndarray, "n dimension"]
Values = Float[np.ndarray, "n 1"]


def sines(points: Points, frequencies: ArrayLike, amplitudes: ArrayLike = 1.0) -> Values:
    """The sum of a_k sin(w_k . x) over plane waves k.

    Args:
        points: x, one per row, floating.
        frequencies: the wave vectors w, (waves, dimension).
        amplitudes: a, one per wave or one for all.

    Returns:
        Targets of the points' dtype.

    Raises:
        ValueError: ``points`` or ``frequencies`` are no matrix, ``points`` not floating, their
            dimensions differ, or ``amplitudes`` are not one per wave.

    Example:
        >>> sines(np.array([[0.0, 0.0], [1.0, 2.0]]), frequencies=[[np.pi / 2, 0.0]]).tolist()
        [[0.0], [1.0]]
    """
    waves = _along(points, "frequencies", frequencies)
    return _sum(points, "amplitudes", amplitudes, np.sin(waves))


def polynomial(points: Points, coefficients: ArrayLike) -> Values:
    """The polynomial sum of c_{pi} x_i^p over powers p = 1, 2, ... and axes i; no mixed terms.

    Args:
        points: x, one per row, floating.
        coefficients: c, (degree, dimension), the linear ones first.

    Returns:
        Targets of the points' dtype.

    Raises:
        ValueError: ``points`` or ``coefficients`` are no matrix, ``points`` not floating, or their
            dimensions differ.

    Example:
        >>> polynomial(np.array([[1.0, 2.0]]), [[0.0, 1.0], [3.0, 10.0]]).tolist()
        [[45.0]]
    """
    by_power = _matrix("coefficients", coefficients, points)
    value = np.zeros((len(points), 1))
    for row in by_power[::-1]:  # Horner's scheme, on each axis by itself
        value = (value + row) * points
    return value.sum(axis=1, keepdims=True).astype(points.dtype)


def steps(
    points: Points, normals: ArrayLike, offsets: ArrayLike = 0.0, heights: ArrayLike = 1.0
) -> Values:
    """The sum of h_k where n_k . x > b_k: steps across hyperplanes k.

    Args:
        points: x, one per row, floating.
        normals: n, (steps, dimension).
        offsets: b, one per step or one for all.
        heights: h, one per step or one for all.

    Returns:
        Targets of the points' dtype.

    Raises:
        ValueError: ``points`` or ``normals`` are no matrix, ``points`` not floating, their
            dimensions differ, or there is not one offset and one height per step.

    Example:
        >>> x = np.array([[-1.0], [0.5], [2.0]])
        >>> steps(x, normals=[[1.0], [1.0]], offsets=[0.0, 1.0], heights=[1.0, 5.0]).tolist()
        [[0.0], [1.0], [6.0]]
    """
    places = _along(points, "normals", normals)
    return _sum(points, "heights", heights, places > _each("offsets", offsets, places.shape[1]))


def sine_mixture(
    n: int = 100, dtype: DTypeLike = np.float32
) -> tuple[Float[np.ndarray, "n 1"], Values]:
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
    return x.astype(dtype), sines(x, [[1.0], [4.0]]).astype(dtype)


def quadratic_target(
    seed: int, n: int = 200, dimension: int = 50, dtype: DTypeLike = np.float64
) -> tuple[Points, Values]:
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
    coefficients = random.standard_normal((2, dimension)) / np.sqrt(dimension)
    x = random.standard_normal((n, dimension))
    return x.astype(dtype), polynomial(x, coefficients).astype(dtype)


def staircase(
    seed: int,
    n: int = 40,
    steps: int = 3,
    width: float = 0.1,
    dtype: DTypeLike = np.float64,
) -> tuple[Float[np.ndarray, "n 1"], Values]:
    """A random staircase at evenly spaced points of [-1, 1], both ends included.

    The sum of h_k tanh((x - b_k) / width). One step lies in each of as many equal parts of
    [-0.6, 0.6], anywhere in it; heights are uniform in [0.5, 1.5]. Targets are standardised. Their
    width and the level ends keep the best fits of narrow tanh networks bounded: a vertical step is
    fitted best by an infinite weight, and a rise up to the end by an exponential, the limit of
    a tanh + a of infinite bias.

    Args:
        seed: of places and heights.
        n: points, at least two: one alone cannot be standardised.
        steps: of the staircase.
        width: of a step, positive.
        dtype: of the arrays.

    Returns:
        Inputs and targets.

    Raises:
        ValueError: ``n`` is less than 2, ``steps`` less than 1, or ``width`` not positive.

    Example:
        >>> inputs, targets = staircase(seed=0)
        >>> inputs.shape, bool((np.diff(targets[:, 0]) > 0).all())
        ((40, 1), True)
    """
    _check(2, n=n)
    _check(steps=steps)
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    random = np.random.default_rng(seed)
    edges = np.linspace(-0.6, 0.6, steps + 1)
    places, heights = random.uniform(edges[:-1], edges[1:]), random.uniform(0.5, 1.5, steps)
    x = np.linspace(-1, 1, n)[:, None]
    y = np.tanh((x - places) / width) @ heights[:, None]
    return x.astype(dtype), ((y - y.mean()) / y.std()).astype(dtype)


def _check(least: int = 1, /, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")


def _matrix(name: str, rows: ArrayLike, points: Points) -> Float[np.ndarray, "rows dimension"]:
    """The rows, which must have a column for each axis of the points."""
    if np.ndim(points) != 2:
        raise ValueError(f"points: expected shape (n, dimension), got {np.shape(points)}")
    if not np.issubdtype(points.dtype, np.floating):
        raise ValueError(f"points: expected floating numbers, got {points.dtype}")
    matrix, dimension = np.asarray(rows, float), points.shape[1]
    if matrix.ndim != 2 or matrix.shape[1] != dimension:
        raise ValueError(f"{name}: expected shape (rows, {dimension}), got {matrix.shape}")
    return matrix


def _along(points: Points, name: str, directions: ArrayLike) -> Float[np.ndarray, "n rows"]:
    """The products of every point with every direction."""
    return points @ _matrix(name, directions, points).T


def _each(name: str, values: ArrayLike, terms: int) -> Float[np.ndarray, " terms"]:
    """One value per term."""
    array = np.asarray(values, float)
    if array.shape not in ((), (terms,)):
        raise ValueError(f"{name}: expected one number or {terms}, got shape {array.shape}")
    return np.broadcast_to(array, terms)


def _sum(points: Points, name: str, weights: ArrayLike, terms: np.ndarray) -> Values:
    """The weighted sum over the terms, the columns."""
    total = terms @ _each(name, weights, terms.shape[1])
    return total[:, None].astype(points.dtype)
