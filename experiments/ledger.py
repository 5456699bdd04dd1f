"""The ledger of claims on a terminal, and the list of experiments."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.errors import printable
from experiments.experiment import PRESETS, Experiment

if TYPE_CHECKING:
    from experiments.claims import Claim

_COLOURS = {"holds": "green", "fails": "red", "undetermined": "yellow"}
_WIDTH_OFF_TERMINAL = 120


def console(stderr: bool = False, terminal: bool | None = None) -> Console:
    """A console that prints text as it stands, and wide enough when its output goes to a file.

    Args:
        stderr: where to.
        terminal: whether it can move the cursor; by default found out.
    """
    found = Console(
        stderr=stderr, force_terminal=terminal, highlight=False, markup=False, emoji=False
    )
    if not found.is_terminal:
        found.width = _WIDTH_OFF_TERMINAL
    return found


def list_table(catalogue: Iterable[Experiment]) -> Table:
    """What experiments there are."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in (
        "name",
        "study",
        "paper figure",
        *(f"{preset} min" for preset in PRESETS),
        "what",
    ):
        table.add_column(column, justify="right" if column.endswith(" min") else "left")
    for each in catalogue:
        minutes = [f"{each.minutes[preset]:g}" for preset in PRESETS]
        table.add_row(each.name, each.study, each.figure, *minutes, each.summary)
    return table


def ledger_table(claims: Iterable["Claim"]) -> Table:
    """The ledger: each claim with what was measured and its verdict."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("claim", "measured", "95 % interval", "n", "target", "verdict", "expected"):
        numeric = column in ("measured", "n")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for claim in claims:
        verdict = Text(claim.verdict, style=_COLOURS[claim.verdict])
        if claim.surprising:
            verdict.append(" !", style="bold")
        table.add_row(
            Text(printable(claim.statement)).append(f"\n{printable(claim.id)}", style="dim"),
            number(claim.measured),
            interval(claim),
            str(claim.n),
            str(claim.target),
            verdict,
            claim.expected,
        )
    return table


def tally(claims: Iterable["Claim"]) -> str:
    """How many claims got which verdict, in words."""
    claims = list(claims)
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in _COLOURS}
    words = {"holds": "hold", "fails": "fail", "undetermined": "undetermined"}
    text = ", ".join(f"{counts[verdict]} {words[verdict]}" for verdict in _COLOURS)
    surprises = sum(claim.surprising for claim in claims)
    return f"{len(claims)} claims: {text}; {surprises} not as expected"


def interval(claim: "Claim") -> str:
    """The interval as text; empty for a number without sampling error."""
    low, high = claim.interval
    return "" if low == high else f"[{number(low)}, {number(high)}]"


def number(value: float) -> str:
    """A measured number, to four digits.

    Example:
        >>> number(0.97124), number(2.5e-12), number(float("nan"))
        ('0.9712', '2.5e-12', '–')
    """
    return "–" if math.isnan(value) else f"{value:.4g}"


def as_json(catalogue: Mapping[str, Experiment]) -> list[dict[str, Any]]:
    """The list of experiments for programs."""
    fields = ("name", "study", "figure", "summary")
    return [
        {field: getattr(each, field) for field in fields} | {"minutes": dict(each.minutes)}
        for each in catalogue.values()
    ]
