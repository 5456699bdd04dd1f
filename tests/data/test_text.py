"""Texts are read byte for byte; passages are pieces of them."""

import pydoc_data.topics

import numpy as np
import pytest

from phenodl.data.text import Text, TextError, help_topics, read_text, sequences


def test_a_file_is_read_byte_for_byte(tmp_path):
    content = "Grüße, мир!\r\n".encode() * 3 + bytes([0, 255])
    path = tmp_path / "text"
    path.write_bytes(content)
    text = read_text(path)
    assert bytes(text.vocabulary[text.tokens]) == content
    assert text.vocabulary.tolist() == sorted(set(content))
    assert (text.name, text.tokens.dtype) == (str(path), np.int32)


def test_the_default_is_the_help_of_this_python():
    text = help_topics()
    content = bytes(text.vocabulary[text.tokens]).decode()
    assert len(content) > 200_000
    assert all(topic in content for topic in pydoc_data.topics.topics.values())
    assert 80 < len(text.vocabulary) < 256


def test_passages_are_pieces_that_do_not_overlap():
    text = Text("numbers", np.arange(100, dtype=np.int32), np.arange(100, dtype=np.uint8))
    found = sequences(text, 9, 10, seed=3)
    assert found.shape == (9, 11)
    assert (np.diff(found, axis=1) == 1).all()
    assert np.unique(found).size == 99
    few = sequences(text, 4, 10, seed=3)
    assert np.unique(few).size == 44
    np.testing.assert_array_equal(few, sequences(text, 4, 10, seed=3))
    assert not np.array_equal(few, sequences(text, 4, 10, seed=4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path, make, message):
    path = tmp_path / "novel.txt"
    make(path)
    with pytest.raises(TextError, match=rf"novel\.txt: {message}.*any file of plain text") as error:
        read_text(path)
    assert "\n" not in str(error.value)


def test_a_text_that_is_too_short_is_named(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a" * 43)
    assert sequences(read_text(path), 2, 20).shape == (2, 21)
    message = r"short\.txt: is too short for 3 sequences of 20 \+ 1 bytes, 63 in all; it has 43"
    with pytest.raises(TextError, match=message):
        sequences(read_text(path), 3, 20)


@pytest.mark.parametrize("name", ["n", "length"])
def test_numbers_of_passages_are_positive(name):
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got 0"):
        sequences(help_topics(), **({"n": 1, "length": 1} | {name: 0}))
