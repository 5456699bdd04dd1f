"""The command line, called in this process on the experiments of the package ``toys``."""

import contextlib
import shutil
from pathlib import Path

import pytest

from experiments import execution, recorder, workers
from experiments.__main__ import main
from experiments.experiment import discover
from experiments.run_directory import RunDirectory


@contextlib.contextmanager
def command_line(folder):
    """A function of words that gives the exit status, with ``folder`` as the current one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(execution, "prepare_jax", lambda *_: None)  # the test session's own holds
        patched.setattr(workers, "default_count", lambda: 1)

        def status_of(*words):
            try:
                return main(words, package="toys")
            except SystemExit as stop:
                return stop.code or 0

        yield status_of


@pytest.fixture(scope="session")
def calls_in():
    """The same for fixtures of a wider scope: ``with calls_in(folder) as status_of: ...``."""
    return command_line


@pytest.fixture
def call(tmp_path, capsys):
    """``call(*words)`` gives exit status, standard output and standard error, in a new folder."""
    with command_line(tmp_path) as status_of:

        def run(*words):
            capsys.readouterr()
            return status_of(*words), *capsys.readouterr()

        yield run


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
