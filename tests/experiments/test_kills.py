"""A run killed in the middle of something, and resumed: the same files, byte for byte.

``python -m benchmarks.kills`` does this many times, at random moments of larger experiments.
"""

import pytest

from benchmarks.kills import PLACES, Moment, command_line, difference, survive


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    words = ("run", "bowls-descent", "--steps", "30", "--out", "finished")
    assert command_line(words, folder, package="toys") == 0
    return folder / "finished"


@pytest.mark.parametrize(
    "moments",
    [
        [Moment("in a step", 2, 0.05), Moment("at a border", 2)],
        [Moment("in a part's write", 2, 0.005), Moment("before a rename", 5)],
        [Moment("before the checksums", 1), Moment("in a checkpoint's write", 3, 0.02)],
    ],
)
def test_a_killed_run_ends_with_the_same_bytes(finished, moments):
    assert {each.place for each in moments} <= PLACES.keys()
    resumed = finished.with_name("resumed-" + "-".join(str(each.call) for each in moments))
    assert survive(finished, resumed, moments, "toys") == len(moments)
    assert difference(finished, resumed) == ""


def test_what_differs_is_named(finished, tmp_path):
    part = next(finished.glob("part-first-*.nc"))
    (tmp_path / "part-other-000000000.nc").write_bytes(b"stray")
    (tmp_path / part.name).write_bytes(part.read_bytes()[:-1] + b"!")
    found = difference(finished, tmp_path)
    assert "lost: claims.json" in found
    assert "stray: part-other-000000000.nc" in found
    assert f"other: {part.name}" in found
