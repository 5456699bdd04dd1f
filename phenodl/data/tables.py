"""Real tables that scikit-learn brings along. Needs scikit-learn, of the extra ``data``."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike


class Regression(NamedTuple):
    """What is known of each row, and what is to be told from it; each column standardised."""

    inputs: Float[np.ndarray, "n features"]
    targets: Float[np.ndarray, "n outputs"]


def iris(*, dtype: DTypeLike = np.float64) -> Regression:
    """The petal width of 150 irises, to be told from their three other measures.

    The measures are Fisher's ("The use of multiple measurements in taxonomic problems", Annals of
    Eugenics 7, 1936): length and width of sepal and petal, in this order. Each is standardised, to
    mean 0 and variance 1 over all flowers.

    Args:
        dtype: of inputs and targets.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed; the message says how to install it.

    Example:
        >>> inputs, targets = iris()
        >>> inputs.shape, targets.shape
        ((150, 3), (150, 1))
    """
    measures = _datasets().load_iris().data
    measures = (measures - measures.mean(axis=0)) / measures.std(axis=0)
    return Regression(measures[:, :3].astype(dtype), measures[:, 3:].astype(dtype))


def _datasets() -> Any:
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "real tables need scikit-learn: pip install 'phenodl[data]'", name="sklearn"
        ) from error
    return datasets
