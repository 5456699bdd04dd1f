import itertools

import numpy as np

from benchmarks import timing
from benchmarks.timing import Row


def test_sides_take_turns_after_a_warm_up(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(timing.time, "process_time", lambda: next(clock))
    calls = []

    def side(name, work):
        return lambda: calls.append(name) or work

    seconds = timing.interleave({"a": side("a", 2), "b": side("b", 4), "c": side("c", 8)}, 3)
    rounds = [tuple(calls[start : start + 3]) for start in range(0, 12, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds[1:])) == 3
    for name, expected in (("a", 1 / 2), ("b", 1 / 4), ("c", 1 / 8)):
        np.testing.assert_array_equal(seconds[name], [expected] * 3)


def test_ratios_are_taken_within_each_round():
    """A machine that slows down tenfold changes the times, not the ratio."""
    slow = np.array([1.0, 10.0, 100.0])
    seconds = {"plain": 1e-6 * slow, "more": 2.5e-6 * slow}
    rows = [Row("plain", "plain"), Row("more", "plain", "≤ 3"), Row("absent", "plain")]
    lines = list(timing.table(seconds, rows))
    assert len(lines) == 4
    assert lines[3] == "| more | 25.0 (13.8 to 137.5) | 2.50 (2.50 to 2.50) | plain | ≤ 3 |"
