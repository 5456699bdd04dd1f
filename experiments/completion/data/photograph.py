"""A photograph as a matrix of grey values. Needs scikit-learn, of the extra ``data``."""

from typing import Any

import numpy as np
from jaxtyping import Float

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def grey(name: str, height: int) -> Float[np.ndarray, "height width"]:
    """One of scikit-learn's two photographs, 427 x 640, as grey values in [0, 1].

    Args:
        name: ``"china"`` or ``"flower"``.
        height: of the result, at most 426; its width is half as much again. Each of its pixels is
            the mean of a square, as large as fits; what is left at the right and below is cut off.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed; the message says how to install it.

    Example:
        >>> grey("china", 16).shape
        (16, 24)
    """
    picture = _load(f"{name}.jpg") @ _LUMA / 255
    width = height * 3 // 2
    side = min(picture.shape[0] // height, picture.shape[1] // width)
    squares = picture[: height * side, : width * side].reshape(height, side, width, side)
    return squares.mean(axis=(1, 3))


def _load(name: str) -> Any:
    try:
        from sklearn.datasets import load_sample_image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the photograph needs scikit-learn: pip install 'phenodl[data]'", name="sklearn"
        ) from error
    return load_sample_image(name)
