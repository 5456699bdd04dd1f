"""The command line, called in this process on the experiments of the package ``toys``."""

import shutil
from pathlib import Path

import pytest

from experiments import execution, recorder, workers
from experiments.__main__ import main
from experiments.experiment import discover
from experiments.run_directory import RunDirectory


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """``call(*words)`` gives exit status, standard output and standard error, in a new folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execution, "prepare_jax", lambda: None)  # the test session's own holds
    monkeypatch.setattr(workers, "default_count", lambda: 1)

    def run(*words):
        capsys.readouterr()
        try:
            status = main(words, package="toys")
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def toys():
    return discover("toys")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    """A finished run with the checkpoints of its last two chunks, made once."""
    path = tmp_path_factory.mktemp("finished") / "run"
    experiment = discover("toys")["bowls-descent"]
    run = RunDirectory.prepare(path, experiment, "quick", experiment.presets["quick"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recorder, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        execution.train(run)
    execution.analyze(run)
    return path


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy of it in the folder ``run``."""
    return Path(shutil.copytree(finished_once, tmp_path / "run"))
