"""Real images for small experiments. Needs scikit-learn, of the extra ``data``."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike


class LabelledImages(NamedTuple):
    """Images, standardised, with their classes one-hot."""

    images: Float[np.ndarray, "n height width"]
    labels: Float[np.ndarray, "n classes"]


def digits(n: int = 50, *, dtype: DTypeLike = np.float32) -> LabelledImages:
    """The first n of scikit-learn's 1797 handwritten digits, 8 x 8 pixels.

    The images are from the UCI data set "Optical recognition of handwritten digits" (Alpaydin and
    Kaynak, 1998). Each pixel is standardised, to mean 0 and variance 1 over all 1797 images; the
    three pixels that are never inked are 0.

    Args:
        n: number of images, at most 1797. The first 50 hold 3 to 7 of each digit.
        dtype: of images and labels.

    Raises:
        ValueError: there are not that many images.
        ModuleNotFoundError: scikit-learn is not installed; the message says how to install it.

    Example:
        >>> images, labels = digits(50)
        >>> images.shape, labels.sum(axis=0).astype(int).tolist()
        ((50, 8, 8), [7, 5, 3, 4, 4, 7, 4, 5, 5, 6])
    """
    bunch = _datasets().load_digits()
    if not 1 <= n <= len(bunch.images):
        raise ValueError(f"n must be in [1, {len(bunch.images)}], got {n}")
    spread = bunch.images.std(axis=0)
    images = (bunch.images - bunch.images.mean(axis=0)) / np.where(spread > 0, spread, 1)
    labels = np.eye(10)[bunch.target]
    return LabelledImages(images[:n].astype(dtype), labels[:n].astype(dtype))


def _datasets() -> Any:
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "real images need scikit-learn: pip install 'phenodl[data]'", name="sklearn"
        ) from error
    return datasets
