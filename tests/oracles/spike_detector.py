"""The spike detector of the definitions, step by step in plain Python, one curve at a time."""

import math


def find_spikes(losses, rise, b1=0.9, start=50):
    """A list of (trigger, peak, end or None, height in decades)."""
    window = round(2 / (1 - b1))
    logs = [math.log10(loss) for loss in losses]
    found = []
    begin = start  # where the search for the next spike starts
    while begin < len(logs):
        levels = {t: max(logs[max(0, t - window + 1) : t + 1]) for t in range(begin, len(logs))}
        trigger = next((t for t in levels if levels[t] > min_until(levels, t) + rise), None)
        if trigger is None:
            break
        base = min_until(levels, trigger)
        end = None
        for t in range(trigger, len(logs)):
            peak = max(range(trigger, t + 1), key=lambda s: logs[s])
            if levels[t] - base <= (logs[peak] - base) / 2:
                end = t
                break
        found.append((trigger, peak, end, logs[peak] - base))
        if end is None:
            break
        begin = end
    return found


def min_until(levels, t):
    """The lowest level of the search up to step t."""
    return min(level for s, level in levels.items() if s <= t)
