"""The anchor task: labels follow from the tokens by a search that knows nothing of the draws."""

import numpy as np
import pytest

from phenodl.data.sequences import SHIFTS, anchor_sequences


def test_labels_are_the_key_plus_the_shifts_of_the_two_anchors_after_it():
    tokens, labels = anchor_sequences(seed=3, n=300, length=9, vocabulary=50)
    for row, label in zip(tokens.tolist(), labels[:, 0].tolist(), strict=True):
        (first, second) = [place for place, token in enumerate(row) if token < 4]
        assert second == first + 1
        key = row[first - 1]
        expected = (key + {0: 1, 1: 5, 2: 7, 3: 11}[row[first]] + SHIFTS[row[second]]) % 50
        assert label == expected


def test_every_place_and_every_pair_of_anchors_occurs():
    tokens, _ = anchor_sequences(seed=0, n=2000)
    first = (tokens < 4).argmax(axis=1)
    # The key may stand at any of the places 0 to 5, the first anchor right after it.
    counts = np.bincount(first, minlength=8)
    np.testing.assert_allclose(counts[1:7], 2000 / 6, rtol=0.25)
    pairs = tokens[np.arange(2000), first] * 4 + tokens[np.arange(2000), first + 1]
    np.testing.assert_allclose(np.bincount(pairs, minlength=16), 2000 / 16, rtol=0.4)


def test_the_seed_decides_the_draw():
    one, same, other = (anchor_sequences(seed=seed, n=20) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.tokens, same.tokens)
    assert (one.tokens != other.tokens).any()
    assert one.tokens.dtype == one.labels.dtype == np.int32


@pytest.mark.parametrize(("name", "value"), [("n", 0), ("length", 2), ("vocabulary", 4)])
def test_bad_sizes_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        anchor_sequences(0, **{name: value})
