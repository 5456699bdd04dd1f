"""The one kind of error that is the user's: one line, exit status 2, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake by the user; the message names the flag or file and what would be right."""


def printable(text: str) -> str:
    r"""The text without characters that steer a terminal, which may come from a stranger's file.

    Example:
        >>> printable("a name\x1b[2J")
        'a name�[2J'
    """
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` with the most similar known word, or nothing.

    Example:
        >>> nearest("spike-digits", ["spikes-digits", "completion-depth"])
        ' (did you mean spikes-digits?)'
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""
