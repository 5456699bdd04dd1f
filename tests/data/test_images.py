"""Real digits: against scikit-learn's own standardisation, and what happens without it."""

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from phenodl.data.images import digits


def test_pixels_are_standardised_as_by_scikit_learn():
    raw: Any = load_digits()
    expected = StandardScaler().fit_transform(raw.data)[:120]

    images, labels = digits(120, dtype=np.float64)

    np.testing.assert_allclose(images.reshape(120, 64), expected, atol=1e-12)
    np.testing.assert_array_equal(labels.argmax(axis=1), raw.target[:120])
    np.testing.assert_array_equal(labels.sum(axis=1), 1)


def test_fewer_images_are_the_first_of_more():
    np.testing.assert_array_equal(digits(10).images, digits(50).images[:10])


def test_single_precision_unless_asked_otherwise():
    assert {array.dtype for array in digits(3)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("n", [0, -1, 1798])
def test_a_number_of_images_that_does_not_exist(n):
    with pytest.raises(ValueError, match=r"n must be in \[1, 1797\]"):
        digits(n)


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)

    with pytest.raises(ModuleNotFoundError) as caught:
        digits()

    assert str(caught.value) == "real images need scikit-learn: pip install 'phenodl[data]'"
