import pytest

from experiments import files
from experiments.errors import UserError


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "claims.json"
    files.write(path, "first")
    files.write(path, lambda temporary: temporary.write_text("second"))
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_what_was_there_survives_a_failure(tmp_path):
    path = tmp_path / "figure.png"
    files.write(path, "whole")

    def fail(temporary):
        temporary.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"figure\.png cannot be written \(No space left on device"):
        files.write(path, fail)
    assert path.read_text() == "whole"


def test_a_place_is_judged_without_touching_it(tmp_path):
    (tmp_path / "file").write_text("")
    files.require_writable(tmp_path / "a" / "b")
    with pytest.raises(UserError, match="cannot be written"):
        files.require_writable(tmp_path / "file" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
