"""What becomes of runs: written, reused, interrupted, killed, resumed, damaged, compared."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from toys.checks import ROOT, files, refused

import phenodl
from experiments import recorder
from phenodl import results

RUN = Path("runs/bowls-descent")


def interrupt_after(monkeypatch, parts):
    """Sends this process the signal of Ctrl-C once so many parts are written."""
    write_part, written = results.write_part, []

    def write(path, part):
        write_part(path, part)
        written.append(path)
        if len(written) == parts:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(results, "write_part", write)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The results of a run that nothing disturbed."""
    from experiments import execution
    from experiments.experiment import discover
    from experiments.run_directory import RunDirectory

    path = tmp_path_factory.mktemp("straight") / "run"
    experiment = discover("toys")["bowls-descent"]
    run = RunDirectory.prepare(path, experiment, "quick", experiment.presets["quick"])
    execution.train(run)
    assert jax.numpy.zeros(()).dtype == "float32"  # double precision has ended with the run
    return {name: phenodl.load(path, name) for name in ("first", "second")}


def assert_as_straight(path, straight):
    for name, expected in straight.items():
        xr.testing.assert_identical(phenodl.load(path, name), expected)


def test_a_run_directory_holds_what_the_contract_says(call, straight):
    status, output, error = call("run", "bowls-descent")
    assert status == 0
    stored = json.loads((RUN / "config.json").read_text())
    assert stored["config"]["seeds"] == 4
    assert set(stored["provenance"]) >= {"versions", "git_commit", "command", "devices", "date"}
    assert {path.name for path in RUN.iterdir()} >= {"checkpoints", "claims.json", "figures"}
    assert {path.name for path in RUN.glob("figures/*")} == {"loss-curves.png", "loss-curves.pdf"}
    assert len(results.part_paths(RUN)) == 8
    assert not list(RUN.rglob(".*.tmp"))
    assert_as_straight(RUN, straight)
    part = results.read_part(results.part_paths(RUN)[0])
    assert json.loads(part.attrs["config"]) == stored["config"]

    verdicts = {
        claim["id"]: claim["verdict"] for claim in json.loads((RUN / "claims.json").read_text())
    }
    assert verdicts == {"bowls-descent/down": "holds", "bowls-descent/zero": "fails"}
    assert "2 claims: 1 hold, 1 fail, 0 undetermined; 1 not as expected" in output
    assert "second 40/40 steps" in error
    assert "python -m experiments report runs/bowls-descent" in error


def test_a_finished_run_is_shown_and_left_alone(call):
    _, first, _ = call("run", "bowls-descent")
    before = files(RUN)
    status, second, error = call("run", "bowls-descent")
    assert (status, second) == (0, first)
    assert "finished; nothing is trained again" in error
    assert call("resume", str(RUN))[0] == 0
    assert files(RUN) == before


def test_another_configuration_is_refused_by_what_differs(call):
    call("run", "bowls-descent")
    before = files(RUN)
    outcome = call("run", "bowls-descent", "--seeds", "5", "--optimizer.b2", "0.9")
    assert refused(outcome, "seeds: 4 there, 5 here", "optimizer.b2: 0.99 there, 0.9 here", "--out")
    assert refused(
        call("run", "bowls-broken", "--out", str(RUN)),
        "experiment: bowls-descent there, bowls-broken here",
    )
    assert files(RUN) == before


@pytest.mark.parametrize("parts", [1, 3, 6])
def test_ctrl_c_leaves_whole_parts_and_resume_ends_with_the_same_bits(
    call, monkeypatch, straight, parts
):
    with monkeypatch.context() as patched:
        interrupt_after(patched, parts)
        status, _, error = call("run", "bowls-descent")
    assert status == 130
    assert error.splitlines()[-1] == (
        "interrupted; go on with: python -m experiments resume runs/bowls-descent"
    )
    assert len(results.part_paths(RUN)) == parts
    for path in results.part_paths(RUN):
        results.read_part(path)
    assert refused(call("analyze", str(RUN)), "not finished", "resume runs/bowls-descent")
    assert refused(call("report", str(RUN)), "not finished", "resume runs/bowls-descent")

    status, output, _ = call("resume", str(RUN))
    assert status == 0
    assert "2 claims" in output
    assert_as_straight(RUN, straight)
    assert len(json.loads((RUN / "config.json").read_text())["resumed"]) == 1


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_ctrl_c_before_a_part_is_written_leaves_no_hole(call, monkeypatch, straight, seconds):
    write_part, asked = results.write_part, []

    def write(path, part):
        asked.append(path)
        if len(asked) == 3:
            path.with_name(f".{path.name}.tmp").write_bytes(b"half of it")
            signal.raise_signal(signal.SIGINT)
        write_part(path, part)

    with monkeypatch.context() as patched:
        patched.setattr(results, "write_part", write)
        patched.setattr(recorder, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
        assert call("run", "bowls-descent")[0] == 130
    assert {path.name for path in (RUN / "checkpoints/first").iterdir()} >= {"20"}
    status, _, error = call("resume", str(RUN))
    assert status == 0
    assert "first goes on from step 20 of its results" in error
    assert_as_straight(RUN, straight)
    assert not list(RUN.glob(".*.tmp"))


def test_running_again_goes_on_as_resume_does(call, monkeypatch, straight):
    with monkeypatch.context() as patched:
        interrupt_after(patched, 2)
        assert call("run", "bowls-descent")[0] == 130
    assert call("run", "bowls-descent")[0] == 0
    assert_as_straight(RUN, straight)


def test_a_killed_run_goes_on_from_its_last_checkpoint(call, tmp_path, straight):
    program = """
import os, signal, sys
from experiments import recorder
from experiments.__main__ import main
from phenodl import results
recorder.SECONDS_BETWEEN_CHECKPOINTS = 0.0
write_part, written = results.write_part, []
def write(path, part):
    write_part(path, part)
    written.append(path)
    if len(written) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
results.write_part = write
main(["run", "bowls-descent"], package="toys")
"""
    paths = [str(ROOT), str(ROOT / "tests/experiments")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}\n{program}"], cwd=tmp_path
    )
    assert done.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in results.part_paths(RUN)}
    assert len(before) == 7
    assert call("resume", str(RUN))[0] == 0
    rewritten = [path for path in before if path.stat().st_mtime_ns != before[path]]
    assert [path.name for path in rewritten] == ["part-second-000000020.nc"]
    for name, expected in straight.items():
        np.testing.assert_array_equal(phenodl.load(RUN, name).loss, expected.loss)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "text"])
def test_a_damaged_part_is_named(call, damage):
    call("run", "bowls-descent")
    path = results.part_paths(RUN)[1]
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "foreign":
        xr.Dataset({"x": 1.0}).to_netcdf(path, engine="h5netcdf")
    else:
        path.write_text("not a result")
    before = files(RUN)
    assert refused(call("analyze", str(RUN)), str(path))
    assert files(RUN) == before


def test_damaged_claims_are_named(call):
    call("run", "bowls-descent")
    (RUN / "claims.json").write_text('[{"id": "bowls-descent/down"}]')
    assert refused(call("report", str(RUN)), "claims.json: cannot be read as claims")
    assert call("analyze", str(RUN))[0] == 0
    assert call("report", str(RUN))[0] == 0


def test_analyze_repeats_claims_without_training(call, monkeypatch):
    call("run", "bowls-descent")
    before = files(RUN)
    (RUN / "claims.json").unlink()
    config = json.loads((RUN / "config.json").read_text())
    config["analyzed"].append("figures/old-name.png")
    (RUN / "config.json").write_text(json.dumps(config))
    (RUN / "figures" / "old-name.png").write_bytes(b"")
    monkeypatch.setattr(recorder, "train", None)
    status, output, _ = call("analyze", str(RUN), "--json")
    assert status == 0
    assert json.loads(output) == json.loads((RUN / "claims.json").read_text())
    assert files(RUN).keys() == before.keys()
    assert files(RUN)[RUN / "claims.json"] == before[RUN / "claims.json"]


def test_analyze_leaves_alone_what_it_did_not_write(call):
    call("run", "bowls-descent")
    mine = [RUN / "figures/sketch.png", RUN / "figures/notes.txt", RUN / "tables/sketch.csv"]
    for path in mine:
        path.write_bytes(b"\xff mine")
    (RUN / "figures" / "drafts.png").mkdir()
    assert call("analyze", str(RUN))[0] == 0
    assert call("report", str(RUN))[0] == 0
    assert all(path.read_bytes() == b"\xff mine" for path in mine)
    assert (RUN / "figures" / "drafts.png").is_dir()
    assert "sketch" not in (RUN / "report.html").read_text(encoding="utf-8")


def test_compare_names_what_differs(call):
    call("run", "bowls-descent", "--out", "a")
    call("run", "bowls-descent", "--out", "b", "--seeds", "2", "--optimizer.eps", "1e-7")
    status, output, _ = call("compare", "a", "b", "--json")
    assert status == 0
    assert json.loads(output) == {
        "configuration": {"seeds": [4, 2], "optimizer.eps": [1e-08, 1e-07]},
        "versions": {},
        "claims": {"bowls-descent/down": ["holds (1)", "undetermined (1)"]}
        | json.loads(output)["claims"],
    }
    table = call("compare", "a", "b")[1]
    assert "optimizer.eps" in table
    assert call("compare", "a", "a")[1] == "no difference in configuration, versions or claims\n"


def test_reproduce_survives_a_failing_experiment_and_runs_twice(call, tmp_path):
    status, output, error = call("reproduce")
    assert status == 1
    assert "2 claims" in output
    assert "failed: bowls-broken: sklearn is missing: pip install 'phenodl[data]'" in error
    assert error.splitlines()[-1] == "page: runs/reproduce-quick/report.html"
    before = files(Path("runs/reproduce-quick/bowls-descent"))
    assert call("reproduce")[1] == output
    assert files(Path("runs/reproduce-quick/bowls-descent")) == before


def test_reproduce_goes_on_after_ctrl_c(call, monkeypatch, straight):
    words = ("reproduce", "--only", "*-descent", "--out", "all")
    with monkeypatch.context() as patched:
        interrupt_after(patched, 5)
        status, _, error = call(*words)
    assert status == 130
    assert error.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert refused(call("report", "all"), "not finished", "resume all/bowls-descent")
    assert call(*words)[0] == 0
    assert_as_straight(Path("all/bowls-descent"), straight)


def test_reproduce_reports_a_fault_of_the_program(call):
    status, output, error = call("reproduce", "--preset", "paper", "--only", "*-broken", "--json")
    assert status == 1
    assert json.loads(output) == {
        "claims": [],
        "failed": {"bowls-broken": "RuntimeError: the bowl is broken"},
    }
    assert "Traceback" in error


def test_strict_fails_on_a_surprise(call):
    words = ("reproduce", "--only", "*-descent", "--out", "all")
    assert call(*words)[0] == 0
    assert call(*words, "--strict")[0] == 1


def test_reproduce_leaves_other_files_alone(call, tmp_path):
    (tmp_path / "site" / "blog").mkdir(parents=True)
    (tmp_path / "site" / "report.html").write_text("mine")
    (tmp_path / "site" / "blog" / "config.json").write_text("{}")
    before = files(tmp_path)
    words = ("reproduce", "--only", "*-descent", "--out", "site")
    assert refused(call(*words), "site holds other files and no runs")
    assert files(tmp_path) == before


def test_reproduce_refuses_before_anything_is_written(call):
    call("run", "bowls-descent", "--seeds", "2", "--out", "all/bowls-descent")
    before = files(Path("all"))
    assert refused(call("reproduce", "--out", "all"), "all/bowls-descent", "seeds: 2 there, 4 here")
    assert files(Path("all")) == before
