"""One run by several processes over loopback: together, detected, refused, and losing one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
import xarray as xr
from toys.checks import refused

import phenodl
from experiments import cluster, lock
from experiments.arguments import Machines
from experiments.errors import UserError
from phenodl import results

PROGRAM = Path(__file__).with_name("toy_process.py")
WORDS = ("run", "bowls-descent", "--seeds", "40", "--out", "run")
SLURM = {
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, *words, **environment):
    paths = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_together(folder, count, *words, **environment):
    meeting = ("--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", str(count))
    return [
        start(folder, *words, *meeting, "--process-id", str(place), **environment)
        for place in range(count)
    ]


def ended(processes, timeout=200.0):
    """Exit status, output and complaints of each."""
    outcomes = [(each, *each.communicate(timeout=timeout)) for each in processes]
    return [(each.returncode, output, error) for each, output, error in outcomes]


def assert_succeeded(processes):
    outcomes = ended(processes)
    for status, _, error in outcomes:
        assert status == 0, error
    return outcomes


def datasets(folder):
    return {name: phenodl.load(folder, name) for name in ("first", "second")}


def assert_same(folder, expected):
    for name, dataset in datasets(folder).items():
        xr.testing.assert_identical(dataset, expected[name])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert_succeeded([start(folder, *WORDS, "--devices", "1")])
    return datasets(folder / "run")


def test_processes_write_their_own_parts_and_the_first_one_the_rest(tmp_path, alone):
    outcomes = assert_succeeded(start_together(tmp_path, 2, *WORDS))
    assert "2 claims" in outcomes[0][1]
    assert "claim" not in outcomes[1][1]
    run = tmp_path / "run"
    assert_same(run, alone)
    writers = {path.name.count(".") for path in results.part_paths(run)}
    assert writers == {1, 2}
    assert json.loads((run / "config.json").read_text())["provenance"]["processes"] == 2
    assert not [path for path in run.rglob("*") if "tmp" in path.name]


def test_a_slurm_step_needs_no_flags(tmp_path, alone):
    """With its five variables, as ``srun`` sets them; the port comes from the number of the job."""
    job = next(number for number in range(1, 4096) if is_free(61440 + number))
    tasks = [
        SLURM | {"SLURM_JOB_ID": str(job), "SLURM_PROCID": place, "SLURM_LOCALID": place}
        for place in "01"
    ]
    assert_succeeded([start(tmp_path, *WORDS, **task) for task in tasks])
    assert_same(tmp_path / "run", alone)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["provenance"]["processes"] == 2


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("lacking", SLURM)
def test_each_of_the_five_variables_is_needed(lacking):
    assert cluster.in_slurm_step(SLURM)
    assert not cluster.in_slurm_step({name: SLURM[name] for name in SLURM if name != lacking})


def test_several_processes_do_not_reproduce(call, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert refused(call("reproduce"), "reproduce is for one process")


def test_a_slurm_step_of_one_task_is_alone():
    assert not cluster.several(Machines(), SLURM | {"SLURM_NTASKS": "1"})


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"process_id": 1}, "need --coordinator HOST:PORT"),
        ({"coordinator": "here"}, "--coordinator must be HOST:PORT or auto, got 'here'"),
        ({"coordinator": ":1"}, "--coordinator must be HOST:PORT or auto"),
        ({"coordinator": "a:65536"}, "--coordinator must be HOST:PORT or auto"),
        ({"coordinator": "a:1"}, "needs --num-processes N and --process-id from 0"),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            "--process-id from 0 to N - 1, got 2 and 2",
        ),
        ({"coordinator": "auto", "num_processes": 2}, "auto finds --num-processes"),
    ],
)
def test_flags_that_contradict_each_other_are_named(flags, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        cluster.several(Machines(**flags), {})


@pytest.mark.parametrize("victim", [0, 2])
def test_when_one_of_four_is_killed_the_others_end_and_two_go_on(tmp_path, alone, victim):
    run = tmp_path / "run"
    processes = start_together(tmp_path, 4, *WORDS, PHENODL_TOY_PAUSE="1")
    deadline = time.monotonic() + 100
    while not (run / "checkpoints/first/10.sha256").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    outcomes = ended(processes)
    assert time.monotonic() - began < 60
    for status, output, error in outcomes:
        assert status != 0, output
        assert "claims" not in output
        said = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(said) == 1
        assert said[0].endswith("go on with: python -m experiments resume run")
    assert_succeeded(start_together(tmp_path, 2, "resume", "run"))
    assert_same(run, alone)
    assert not [path for path in run.rglob("*") if "tmp" in path.name]


def test_devices_that_are_not_there_are_refused():
    count = len(jax.local_devices())
    assert cluster.devices("all") == jax.devices()
    assert cluster.devices(1) == jax.devices()[:1]
    with pytest.raises(UserError, match=f"--devices 99: there are {count}"):
        cluster.devices(99)


def test_a_directory_in_use_is_refused_by_all(tmp_path):
    (tmp_path / "run").mkdir()
    with lock.held(tmp_path / "run"):
        first, second = ended(start_together(tmp_path, 2, *WORDS))
    assert (first[0], second[0]) == (2, 2)
    assert first[2].splitlines()[-1] == "error: run is in use by another process"
    assert second[2].splitlines()[-1] == "error: the first process cannot go on; it says why"
