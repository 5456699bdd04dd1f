"""Runs whose files were lost, swapped or spoilt, and runs that two processes want."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from toys.checks import ROOT, files, refused

import phenodl
from experiments import lock

RUN = Path("run")


@pytest.fixture
def run(call, finished):
    """The results of a finished run, which lies in the working directory."""
    return {name: phenodl.load(finished, name) for name in ("first", "second")}


def part(training, step):
    return RUN / f"part-{training}-{step:09d}.nc"


def assert_mended(call, before, *retrain):
    """Resuming ends with the results that were there, and with claims again."""
    claims = (RUN / "claims.json").read_bytes()
    status, output, error = call("resume", "run", *retrain)
    assert (status, "2 claims" in output) == (0, True)
    for name, expected in before.items():
        xr.testing.assert_identical(phenodl.load(RUN, name), expected)
    assert (RUN / "claims.json").read_bytes() == claims
    return error


@pytest.mark.parametrize(
    ("lost", "reached"), [([0], 0), ([10], 0), ([30], 30), ([20, 30], 0), ([0, 10, 20, 30], 0)]
)
def test_lost_parts_are_noticed_and_trained_again_if_the_user_says_so(call, run, lost, reached):
    for step in lost:
        part("first", step).unlink()
    before = files(RUN)
    for command in ("analyze", "report"):
        outcome = call(command, "run")
        assert refused(outcome, "run has lost results of first", "resume run --retrain")
    for words in (["resume", "run"], ["run", "bowls-descent", "--out", "run"]):
        begin, end = f"step {lost[0]} to", "40 are missing; to train them again:"
        assert refused(call(*words), f"results of first from {begin}", end, "resume run --retrain")
    assert files(RUN) == before
    error = assert_mended(call, run, "--retrain")
    assert f"first goes on from step {reached} of its results" in error
    assert "second" not in error


def swap_step(call):
    shutil.copy(part("first", 0), part("first", 20))
    return part("first", 20)


def swap_training(call):
    shutil.copy(part("second", 10), part("first", 10))
    return part("first", 10)


def swap_configuration(call):
    call("run", "bowls-descent", "--out", "other", "--optimizer.learning-rate", "0.2")
    shutil.copy(Path("other") / part("first", 10).name, part("first", 10))
    return part("first", 10)


def add_training(call):
    shutil.copy(part("first", 0), part("third", 0))
    return part("third", 0)


def truncate(call):
    part("second", 30).write_bytes(part("second", 30).read_bytes()[:5000])
    return part("second", 30)


@pytest.mark.parametrize(
    "spoil", [swap_step, swap_training, swap_configuration, add_training, truncate]
)
def test_a_part_from_elsewhere_is_named_and_can_be_removed(call, run, spoil):
    path = spoil(call)
    before = files(RUN)
    for command in ("analyze", "report", "resume"):
        assert refused(
            call(command, "run"), str(path), "remove it and run:", "resume run --retrain"
        )
    assert files(RUN) == before
    path.unlink()
    assert_mended(call, run, "--retrain")


def test_an_unfinished_run_does_not_go_on_over_a_hole(call, run):
    stored = json.loads((RUN / "config.json").read_text())
    (RUN / "config.json").write_text(json.dumps(stored | {"trained": None}))
    part("first", 30).unlink()
    part("first", 0).unlink()
    assert "from step 0 of its results" in assert_mended(call, run, "--retrain")


@pytest.mark.parametrize(("damaged", "reached"), [((30,), 0), ((), 30)])
def test_a_damaged_checkpoint_is_left_out(call, run, damaged, reached):
    part("first", 30).unlink()
    for step in damaged:
        for path in (RUN / "checkpoints" / "first" / str(step)).rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = assert_mended(call, run, "--retrain")
    assert f"first goes on from step {reached} of its results" in error
    for step in damaged:
        assert str(RUN / "checkpoints" / "first" / str(step)) in error


def test_two_processes_do_not_share_a_run(call, run):
    (RUN / "claims.json").rename("claims.json")
    before = files(RUN)
    program = """
import sys
from pathlib import Path
from experiments import lock
with lock.held(Path("run")):
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "held\n"
        for words in (("resume", "run"), ("analyze", "run")):
            assert refused(call(*words), "run is in use by another process")
        assert refused(call("run", "bowls-descent", "--out", "run"), "in use by another process")
        assert files(RUN) == before
    Path("claims.json").rename(RUN / "claims.json")
    assert_mended(call, run)


def test_a_lock_leaves_no_trace_of_a_run_that_never_began(tmp_path):
    with lock.held(tmp_path / "runs" / "new"):
        assert (tmp_path / "runs" / "new").is_dir()
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "runs" / "new" / "config.json"
    with lock.held(file.parent):
        file.write_text("{}")
    assert file.exists()
