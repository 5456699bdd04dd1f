"""The command line, called in this process on the experiments of the package ``toys``."""

import pytest

from experiments import execution
from experiments.__main__ import main
from experiments.experiment import discover


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """``call(*words)`` gives exit status, standard output and standard error, in a new folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execution, "prepare_jax", lambda: None)  # the test session's own holds

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
