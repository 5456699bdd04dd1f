"""Text as bytes: from any file the user names, or from the help topics that ship with Python.

A vocabulary of bytes needs no tokenizer and no encoding: every file that is not empty is text.
"""

import pydoc_data.topics
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8


class TextError(ValueError):
    """A text cannot be used; the message is one line that starts with its name."""


class Text(NamedTuple):
    """A text as numbers of its vocabulary.

    Attributes:
        name: of the text, for messages and tables.
        tokens: each byte as its place in the vocabulary.
        vocabulary: the distinct bytes of the text, in increasing order.
    """

    name: str
    tokens: Int[np.ndarray, " bytes"]
    vocabulary: UInt8[np.ndarray, " tokens"]


def read_text(path: str | Path) -> Text:
    """The bytes of a file, whatever they encode.

    Args:
        path: of the file; plain text in any encoding, at least one byte.

    Raises:
        TextError: the file is missing, empty, a folder, or cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "poem.txt"
        ...     _ = path.write_bytes(b"banana")
        ...     text = read_text(path)
        >>> text.tokens.tolist(), bytes(text.vocabulary)
        ([1, 0, 2, 0, 2, 0], b'abn')
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path at all, with a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise TextError(f"{path}: cannot be read ({reason}); any file of plain text will do") from (
            error
        )
    if not content:
        raise TextError(f"{path}: is empty; any file of plain text will do")
    return _from_bytes(str(path), content)


def help_topics() -> Text:
    """The help topics of this Python, what ``help()`` prints: some 450,000 bytes of English.

    The text, and so its vocabulary (107 bytes in Python 3.11), differs between versions of Python.

    Example:
        >>> text = help_topics()
        >>> b"assert" in bytes(text.vocabulary[text.tokens])
        True
    """
    topics = pydoc_data.topics.topics
    content = "\n".join(topics[name] for name in sorted(topics))
    return _from_bytes("help topics of Python", content.encode())


def _from_bytes(name: str, content: bytes) -> Text:
    vocabulary, tokens = np.unique(np.frombuffer(content, np.uint8), return_inverse=True)
    return Text(name, tokens.astype(np.int32), vocabulary)


def sequences(text: Text, n: int, length: int, *, seed: int = 0) -> Int[np.ndarray, "n length_1"]:
    """Passages of the text, each with one token more than a model reads: what follows the last.

    Args:
        text: to draw from.
        n: number of passages.
        length: that a model reads.
        seed: of the draw; the passages do not overlap.

    Returns:
        Tokens, (n, length + 1), int32.

    Raises:
        ValueError: ``n`` or ``length`` is not positive.
        TextError: the text is too short for so many passages.

    Example:
        >>> text = Text("alphabet", np.arange(26, dtype=np.int32), np.arange(26, dtype=np.uint8))
        >>> sequences(text, n=3, length=4).shape
        (3, 5)
    """
    for argument, value in (("n", n), ("length", length)):
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}")
    places, needed = len(text.tokens) // (length + 1), n * (length + 1)
    if n > places:
        raise TextError(
            f"{text.name}: is too short for {n} sequences of {length} + 1 bytes, {needed} in all;"
            f" it has {len(text.tokens)}"
        )
    chosen = np.sort(np.random.default_rng(seed).choice(places, n, replace=False))
    return text.tokens[: places * (length + 1)].reshape(places, length + 1)[chosen]
