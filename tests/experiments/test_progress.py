import io

import pytest
from rich.console import Console

from experiments import progress
from experiments.progress import TrainingProgress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def show(clock, console, seconds_per_chunk):
    with TrainingProgress("spikes-digits · train", console) as shown:
        for step in range(100, 1100, 100):
            clock.now += seconds_per_chunk
            shown.update(step, 1000, 100 / seconds_per_chunk, 0.5 / step, last=step == 1000)


def test_away_from_a_terminal_a_line_appears_every_few_seconds(clock):
    output = io.StringIO()
    show(clock, Console(file=output, width=120), seconds_per_chunk=2.0)
    lines = output.getvalue().splitlines()
    assert len(lines) == 4
    assert (
        lines[0] == "spikes-digits · train 300/1000 steps · 50 steps/s · 0:14 left · loss 0.00167"
    )
    assert lines[-1] == "spikes-digits · train 1000/1000 steps · 50 steps/s · done · loss 0.0005"


def test_hours_are_shown_as_hours(clock):
    output = io.StringIO()
    show(clock, Console(file=output, width=120), seconds_per_chunk=600.0)
    assert "1:30:00 left" in output.getvalue().splitlines()[0]


def test_on_a_terminal_there_is_one_bar(clock):
    output = io.StringIO()
    show(clock, Console(file=output, width=120, force_terminal=True), seconds_per_chunk=2.0)
    shown = output.getvalue()
    assert shown.count("spikes-digits · train") == shown.count("steps/s") + shown.count("compiling")
    assert "1000/1000" in shown
    assert "done · loss 0.0005" in shown


def test_without_a_console_nothing_is_shown(clock, capsys):
    show(clock, None, seconds_per_chunk=10.0)
    assert capsys.readouterr() == ("", "")
