"""What differs between two runs."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from experiments.errors import printable
from experiments.ledger import number
from experiments.provenance import differences
from experiments.run_directory import RunDirectory

Differences = dict[str, dict[str, tuple[Any, Any]]]


def compare_runs(first: RunDirectory, second: RunDirectory) -> Differences:
    """The differing entries under ``configuration``, ``versions`` and ``claims``."""
    left, right = first.stored, second.stored
    names = ("experiment", "preset", "x64", "shard")
    head = ({name: stored.get(name) for name in names} for stored in (left, right))
    origins = (_origin(stored["provenance"]) for stored in (left, right))
    return {
        "configuration": differences(*head) | differences(left["config"], right["config"]),
        "versions": differences(*origins),
        "claims": differences(_claims(first), _claims(second)),
    }


def comparison_table(differing: Differences, first: str, second: str) -> Table:
    """The differences as a table for the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "what", first, second):
        table.add_column(column, overflow="fold")
    for section, entries in differing.items():
        for place, (name, (left, right)) in enumerate(entries.items()):
            table.add_row("" if place else section, printable(name), _text(left), _text(right))
    return table


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    names = ("python", "platform", "processes", "devices", "git_commit")
    return {
        **provenance["versions"],
        **{name: provenance[name] for name in names},
    }


def _claims(run: RunDirectory) -> dict[str, str]:
    if not (run.path / "claims.json").exists():
        return {}
    return {claim.id: f"{claim.verdict} ({number(claim.measured)})" for claim in run.claims()}


def _text(value: Any) -> str:
    return "–" if value is None else printable(str(value))
