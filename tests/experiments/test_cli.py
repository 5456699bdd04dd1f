"""The contract of the command line: what it prints, what it writes, how it refuses."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from toys.checks import ROOT, files, refused

from experiments.errors import UserError
from experiments.experiment import PRESETS, discover
from experiments.parsing import parse
from experiments.provenance import command
from experiments.serialization import encode


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rn", ("unknown command 'rn'", "did you mean run?")),
        ("run", ("name of an experiment",)),
        ("run bowls-decent", ("unknown experiment 'bowls-decent'", "did you mean bowls-descent?")),
        ("run --seeds 3 bowls-descent", ("name of an experiment first",)),
        ("run bowls-descent --sedes 3", ("unknown flag --sedes", "did you mean --seeds?")),
        ("run bowls-descent --optimizer.b3=1", ("--optimizer.b3", "--optimizer.b")),
        ("run bowls-descent --seeds 0", ("--seeds must be at least 1, got 0",)),
        ("run bowls-descent --seeds -3", ("--seeds must be at least 1, got -3",)),
        ("run bowls-descent --seeds many", ("--seeds must be an integer, got 'many'",)),
        ("run bowls-descent --seeds", ("--seeds needs a value",)),
        ("run bowls-descent --tail x", ("--tail must be INT, got 'x'",)),
        ("run bowls-descent --optimizer.b2 1.2", ("--optimizer.b2 must be in [0, 1), got 1.2",)),
        ("run bowls-descent --optimizer.b2 nan", ("--optimizer.b2 must be in [0, 1), got nan",)),
        (
            "run bowls-descent --optimizer.learning-rate inf",
            ("--optimizer.learning-rate must be finite and positive, got inf",),
        ),
        ("run bowls-descent --optimizer.learning-rate x", ("must be a number, got 'x'",)),
        ("run bowls-descent --preset medium", ("--preset must be one of 'quick', 'paper'",)),
        ("run bowls-descent --steps 3000000000", ("--steps must be below 2**31",)),
        (f"run bowls-descent --out {'long' * 100}", ("cannot be read (File name too long)",)),
        (f"report {'long' * 100}", ("cannot be read (File name too long)",)),
        ("run bowls-descent extra", ("unexpected argument 'extra'",)),
        ("reproduce --only completion-*", ("--only completion-*",)),
        ("reproduce --stric", ("unknown flag --stric", "did you mean --strict?")),
        ("report", ("report needs DIR",)),
        ("report nowhere", ("nowhere holds no run",)),
        ("resume nowhere", ("nowhere holds no run",)),
        ("analyze nowhere", ("nowhere holds no run",)),
        ("compare nowhere elsewhere", ("nowhere holds no run",)),
        ("run bowls-descent --out file/below", ("file/below cannot be written",)),
        ("run bowls-descent --out file", ("file cannot be written",)),
        ("run bowls-descent --out folder", ("folder holds other files",)),
        ("report folder", ("folder holds no run",)),
        ("run bowls-broken", ("sklearn is missing", "pip install 'phenodl[data]'")),
    ],
)
def test_a_mistake_gets_one_line_and_writes_nothing(call, tmp_path, words, said):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine too")
    before = files(tmp_path)
    assert refused(call(*words.split()), *said)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"experiment": "bowls-descent"}', "\x00binary"]
)
def test_a_foreign_config_is_named(call, tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(text)
    for words in (("resume", "run"), ("report", "run"), ("run", "bowls-descent", "--out", "run")):
        assert refused(call(*words), "run/config.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"experiment": ["bowls-descent"]}, "experiment: "),
        ({"preset": {}}, "preset: "),
        ({"x64": "yes"}, "x64: "),
        ({"config": []}, "config: "),
        ({"provenance": None}, "Provenance"),
        ({"provenance": {"command": "run"}}, "Provenance"),
        ({"resumed": None}, "resumed: "),
        ({"trained": True}, "Trained"),
        ({"trained": {"date": "", "seconds": 1, "trainings": "first"}}, "trained: trainings: "),
        ({"analyzed": [1]}, "analyzed: "),
        ({"x64": ..., "resumed": ...}, "resumed, x64"),
    ],
)
def test_a_config_with_wrong_fields_is_named(call, finished, changes, said):
    path = finished / "config.json"
    stored = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: each for key, each in stored.items() if each is not ...}))
    for word in ("resume", "report", "analyze"):
        assert refused(call(word, str(finished)), "config.json: describes no run", said)


@pytest.mark.parametrize("order", [("paper", "quick"), ("quick", "paper")])
@pytest.mark.parametrize("glue", [" ", "="])
def test_the_last_preset_wins(toys, order, glue):
    words = " ".join(f"--preset{glue}{preset}" for preset in order)
    parsed = parse(f"run bowls-descent {words}".split(), toys)
    assert parsed.preset == order[-1]
    assert parsed.config == toys["bowls-descent"].presets[order[-1]]


def test_an_experiment_may_have_a_preset_of_its_own(toys, call):
    descent = toys["bowls-descent"]
    large = dataclasses.replace(descent.presets["paper"], seeds=1000)
    presets = {**descent.presets, "large": large}
    minutes = {**descent.minutes, "large": 60.0}
    catalogue = toys | {
        "bowls-descent": dataclasses.replace(descent, presets=presets, minutes=minutes)
    }
    words = "run bowls-descent --preset large --steps 7"
    assert parse(words.split(), catalogue).config == dataclasses.replace(large, steps=7)
    said = call("run", "bowls-descent", "--preset", "large")
    assert refused(said, "--preset must be one of 'quick', 'paper', got 'large'")


@pytest.mark.parametrize(
    "words",
    ["my.csv --seed 3", "--seed 3 my.csv", "--file my.csv --seed=3", "--seed 3 --file=my.csv"],
)
def test_an_experiment_on_a_file_takes_it_as_a_word(words):
    catalogue = discover()
    experiment = catalogue["completion-data"]
    parsed = parse(["run", "completion-data", *words.split()], catalogue)
    assert parsed.config == dataclasses.replace(experiment.presets["quick"], file="my.csv", seed=3)
    again = command(experiment, "quick", parsed.config).split()[3:]
    assert parse(again, catalogue) == parsed


def test_one_file_at_a_time():
    with pytest.raises(UserError, match=r"one file at a time: got a.csv and --file b.csv"):
        parse(["run", "completion-data", "a.csv", "--file", "b.csv"], discover())


@pytest.mark.parametrize("words", [["list"], ["run", "--help"]])
def test_a_terminal_without_unicode_is_served(words):
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "spikes-quadratic" in done.stdout


def test_nothing_asks_for_the_list(call):
    status, output, _ = call()
    assert status == 0
    header, broken, descent = output.splitlines()
    assert [word in header for word in ("name", "study", "paper figure", "min")] == [True] * 4
    assert broken.startswith("bowls-broken")
    assert "TOY Fig. 1" in descent


def test_list_as_json(call):
    status, output, _ = call("list", "--json")
    assert status == 0
    assert json.loads(output)[1] == {
        "name": "bowls-descent",
        "study": "bowls",
        "figure": "TOY Fig. 1",
        "summary": "Adam reaches the bottom of a bowl.",
        "minutes": {"quick": 0.1, "paper": 0.2},
    }


def test_help_shows_meaning_and_default_of_every_field(call):
    status, output, _ = call("run", "bowls-descent", "--help")
    assert status == 0
    for text in ("--seeds INT", "Number of runs", "(default: 4)", "--optimizer.learning-rate"):
        assert text in output
    assert "(default: 8)" in call("run", "bowls-descent", "--preset", "paper", "--help")[1]
    assert "bowls-descent" in call("run", "--help")[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_the_experiments(call, shell):
    status, output, _ = call("--tyro-print-completion", shell)
    assert status == 0
    assert "bowls-descent" in output


def test_starting_up_imports_nothing_heavy():
    program = (
        "import sys; from experiments.__main__ import main; main(['list']);"
        "heavy = {'jax', 'numpy', 'scipy', 'matplotlib', 'xarray'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_experiment_is_declared_whole():
    for name, experiment in discover().items():
        assert name.startswith(f"{experiment.study}-")
        assert tuple(experiment.presets)[:2] == PRESETS
        assert set(experiment.presets) == set(experiment.minutes)
        assert experiment.summary
        assert experiment.figure


def test_the_stored_command_gives_the_same_configuration(call, toys, tmp_path):
    experiment = toys["bowls-descent"]
    words = "run bowls-descent --preset paper --steps 20 --curvatures 1 3 --optimizer.b2 0.9"
    status, _, _ = call(*words.split())
    assert status == 0
    stored = json.loads((tmp_path / "runs/bowls-descent/config.json").read_text())
    assert stored["config"] == encode(experiment.presets["paper"]) | {
        "steps": 20,
        "curvatures": [1.0, 3.0],
        "optimizer": stored["config"]["optimizer"] | {"b2": 0.9},
    }
    again = stored["provenance"]["command"]
    assert again == (
        "python -m experiments run bowls-descent --preset paper"
        " --steps 20 --curvatures 1.0 3.0 --optimizer.b2 0.9"
    )
    status, _, error = call(*again.split()[3:])
    assert status == 0
    assert "nothing is trained again" in error
    assert command(experiment, "quick", experiment.presets["quick"]).endswith("--preset quick")
