"""Alarms and their scores by their definition, in plain Python."""

import math


def find_alarms(above, gap):
    """Lists of [first, last] steps above, where gaps of up to ``gap`` steps are closed."""
    found = []
    for step, loud in enumerate(above):
        if not loud:
            continue
        if found and step - found[-1][1] - 1 <= gap:
            found[-1][1] = step
        else:
            found.append([step, step])
    return found


def score(above, spikes, gap, horizon):
    """(true, false, dropped, foreseen) and the lead times; spikes as (trigger, end or None)."""
    found = find_alarms(above, gap)
    true = false = dropped = 0
    for first, last in found:
        if any(trigger < first and (end is None or first <= end) for trigger, end in spikes):
            dropped += 1
        elif any(first <= trigger <= last + horizon for trigger, _ in spikes):
            true += 1
        else:
            false += 1
    leads = []
    for trigger, _ in spikes:
        begins = [first for first, last in found if first <= trigger <= last + horizon]
        if begins:
            leads.append(trigger - max(begins))
    return (true, false, dropped, len(leads)), leads


def auc(values, spikes, horizon):
    """The share of pairs of a step before a trigger and another one in which the first is higher.

    Ties count half, steps inside spikes and values that are NaN not at all.
    """
    before, other = [], []
    for step, value in enumerate(values):
        inside = any(first <= step and (end is None or step <= end) for first, end in spikes)
        if inside or math.isnan(value):
            continue
        near = any(step < first <= step + horizon for first, _ in spikes)
        (before if near else other).append(value)
    if not before or not other:
        return math.nan
    wins = sum((a > b) + 0.5 * (a == b) for a in before for b in other)
    return wins / (len(before) * len(other))
