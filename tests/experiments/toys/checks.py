"""What several tests of the command line look at."""

from pathlib import Path

ROOT = Path(__file__).parents[3]


def files(folder):
    """All files in a folder with their bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(outcome, *words):
    """Whether a call ended as a user's mistake ends: one line that says these words, status 2."""
    status, output, error = outcome
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert output == ""
    for word in words:
        assert word in error
    return status == 2
