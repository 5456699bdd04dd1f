"""Runs whose files were lost, swapped or spoilt, and runs that two processes want."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from toys.checks import ROOT, files, refused

import phenodl
from experiments import lock
from phenodl import atomic, checkpoint

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
import time
from pathlib import Path
from experiments import lock
from phenodl import atomic, checkpoint
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


@pytest.mark.parametrize("step", [20, 30])
def test_a_flipped_bit_in_a_part_is_named(call, run, step):
    content = bytearray(part("first", step).read_bytes())
    content[len(content) // 2] ^= 4
    part("first", step).write_bytes(content)
    for command in ("analyze", "resume"):
        damaged = f"{part('first', step)}: damaged"
        assert refused(call(command, "run"), damaged, "remove it and run:", "run --retrain")


def test_a_flipped_bit_in_a_checkpoint_leaves_the_one_before(call, run):
    part("first", 30).unlink()
    newest = RUN / "checkpoints" / "first" / "40"
    shutil.rmtree(newest)
    newest.with_suffix(".sha256").unlink()
    path = max((RUN / "checkpoints" / "first" / "30").rglob("d/*"), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    error = assert_mended(call, run)
    assert "left out: run/checkpoints/first/30: damaged, it differs from 30.sha256" in error
    assert "first goes on from step 0 of its results" in error


def test_a_checkpoint_of_another_program_is_refused(call, run, monkeypatch):
    """As after an update of the code: the state has other arrays."""
    part("first", 30).unlink()
    shutil.rmtree(RUN / "checkpoints" / "first" / "40")
    before = files(RUN)
    named = checkpoint._named
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_named", lambda state: named(state) | {".new": state.loss})
        outcome = call("resume", "run")
    assert refused(outcome, "30: .new is missing, this code expects float64[] per run", "--retrain")
    assert files(RUN) == before
    assert_mended(call, run)


def process(*words, **environment):
    """The command line in a process of its own."""
    program = Path(__file__).with_name("toy_process.py")
    return subprocess.Popen(
        [sys.executable, str(program), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def complaint(error):
    """What is said apart from progress."""
    return [
        line for line in error.splitlines() if not line.startswith(("bowls-", "first", "second"))
    ]


@pytest.mark.parametrize(
    ("full", "named"),
    [("part", "part-first-000000020.nc"), ("checkpoint", "checkpoints/first/30")],
)
def test_a_full_disk_is_told_in_a_line_and_gone_on_from(call, run, full, named):
    running = process("run", "bowls-descent", "--out", "new", PHENODL_TOY_FULL=full)
    _, error = running.communicate(timeout=100)
    assert running.returncode == 2
    assert complaint(error) == [f"error: new/{named} cannot be written (File too large)"]
    assert call("resume", "new")[0] == 0
    for name, expected in run.items():
        xr.testing.assert_identical(phenodl.load("new", name), expected)
    assert not [path for path in Path("new").rglob("*") if "tmp" in path.name]


def test_a_disk_that_becomes_read_only_is_told_in_a_line(call, run, monkeypatch):
    """Root may write anywhere, so the refusal is the system's own error, put in its place."""

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "_sync", refuse)
        outcome = call("run", "bowls-descent", "--out", "new")
    assert refused(outcome, "new/config.json cannot be written (Read-only file system)")
    assert call("run", "bowls-descent", "--out", "new")[0] == 0


def test_a_clock_that_was_set_back_changes_nothing(call, run, monkeypatch):
    part("first", 30).unlink()
    now = time.time()
    for path in RUN.rglob("*"):
        os.utime(path, (now + 1e6, now + 1e6))
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now - 1e7)
        assert "first goes on from step 30" in assert_mended(call, run, "--retrain")
    assert checkpoint.steps(RUN / "checkpoints" / "first") == [30, 40]


@pytest.mark.parametrize("apart", [0.0, 0.03, 0.3])
def test_ctrl_c_twice_ends_at_once_and_can_be_gone_on_from(call, run, apart):
    running = process("run", "bowls-descent", "--out", "new", PHENODL_TOY_PAUSE="0.2")
    while not Path("new", "checkpoints", "first", "10.sha256").exists():
        assert running.poll() is None
        time.sleep(0.01)
    for _ in range(2):
        running.send_signal(signal.SIGINT)
        time.sleep(apart)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert complaint(error) == [
        "interrupted; go on with: python -m experiments resume new",
    ]
    assert call("resume", "new")[0] == 0
    for name, expected in run.items():
        xr.testing.assert_identical(phenodl.load("new", name), expected)
    assert not [path for path in Path("new").rglob("*") if "tmp" in path.name]
