"""One self-contained HTML page: the ledger, then figures, configuration and origin of each run."""

import base64
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from experiments import files, ledger
from experiments.errors import UserError
from experiments.provenance import now
from experiments.run_directory import RunDirectory
from experiments.serialization import flatten

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(page: Path, runs: Sequence[RunDirectory], unfinished: Mapping[str, str]) -> Path:
    """Writes the page of some analyzed runs.

    Args:
        page: the file to write.
        runs: each with its claims and figures stored.
        unfinished: names of runs without a result, and why.

    Returns:
        The page's path.
    """
    files.write(page, render(runs, unfinished))
    return page


def render(runs: Sequence[RunDirectory], unfinished: Mapping[str, str]) -> str:
    """The page as text. It refers to nothing outside itself."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": ledger.number, "interval": ledger.interval}
    sections = [_section(run) for run in runs]
    claims = [claim for section in sections for claim in section["claims"]]
    return environment.get_template("report.html").render(
        title=sections[0]["title"] if len(sections) == 1 else "The ledger of claims",
        date=now(),
        tally=ledger.tally(claims),
        sections=sections,
        unfinished=unfinished,
    )


def _section(run: RunDirectory) -> dict[str, Any]:
    stored, folder = run.stored, run.path.resolve().name
    return {
        "anchor": folder,
        "title": run.experiment.name + ("" if folder == run.experiment.name else f" ({folder})"),
        "experiment": run.experiment,
        "claims": run.claims(),
        "figures": {path.stem: _data_url(path) for path in run.outputs("*.png")},
        "tables": {path.stem: _rows(path) for path in run.outputs("*.csv")},
        "configuration": flatten(stored["config"]),
        "origin": _origin(stored),
        "command": stored["provenance"]["command"],
    }


def _origin(stored: Mapping[str, Any]) -> dict[str, str]:
    provenance = stored["provenance"]
    return {
        "preset": stored["preset"],
        "precision": "float64" if stored["x64"] else "float32",
        "trained": f"{stored['trained']['date']}, {stored['trained']['seconds']:g} s",
        "resumed": f"{len(stored['resumed'])} times",
        "commit": provenance["git_commit"] or "none",
        "machine": f"{provenance['platform']}, {provenance['cores']} cores",
        "processes": str(provenance["processes"]),
        "devices": ", ".join(provenance["devices"]),
        "python": provenance["python"],
    } | provenance["versions"]


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _rows(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file)) or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
