"""Workers: what goes wrong in one run leaves the others alone, and nobody outlives the work."""

import importlib.metadata
import multiprocessing
import os

import pytest
from toys.bowls.broken import config as broken

from experiments import workers
from experiments.experiment import discover
from experiments.run_directory import RunDirectory


@pytest.fixture
def runs(tmp_path):
    toys = discover("toys")
    faults = [broken.Config(fault) for fault in ("package", "program", "death")]
    configs = [("bowls-descent", toys["bowls-descent"].presets["quick"])]
    configs += [("bowls-broken", fault) for fault in faults]
    return [
        RunDirectory.prepare(tmp_path / str(number), toys[name], "quick", config)
        for number, (name, config) in enumerate(configs)
    ]


def test_side_by_side_every_run_ends_with_its_own_outcome(runs, finished):
    announced = []
    outcomes = {run.path: said for run, said in workers.complete(runs, 2, announced.append)}
    assert {run.path for run in announced} == {run.path for run in runs}
    good, package, program, death = (outcomes[run.path] for run in runs)
    assert good is None
    assert "pip install 'phenodl[data]'" in package
    assert program == "RuntimeError: the bowl is broken"
    assert "process has died" in death
    assert (runs[0].path / "claims.json").read_text() == (finished / "claims.json").read_text()


def _die(pipe):
    os._exit(1)


def test_a_process_that_dies_before_its_run_is_that_run_s_failure(runs, monkeypatch):
    monkeypatch.setattr(workers, "_work", _die)
    outcomes = {run.path: said for run, said in workers.complete(runs[:2], 2, lambda run: None)}
    assert all("process has died" in said for said in outcomes.values())
    assert len(outcomes) == 2


def test_no_process_outlives_an_interruption(runs):
    outcomes = workers.complete(runs, 2, lambda run: None)
    next(outcomes)
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt())
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("platform", "plugins", "most"), [("cpu", ["cuda"], 4), ("", ["cuda"], 1), ("", [], 4)]
)
def test_an_accelerator_is_not_shared(monkeypatch, platform, plugins, most):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.setattr(workers, "cores", lambda: 64)
    assert workers.default_count() == most
