"""The commands as data: a dataclass each, whose fields and docstrings are its flags and help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

PROGRAM = "python -m experiments"

Preset = Literal["quick", "paper"]
Directory = Annotated[Path, arg(metavar="DIR")]
OptionalDirectory = Annotated[Path | None, arg(metavar="DIR")]
OptionalFile = Positional[Annotated[str | None, arg(metavar="[FILE]")]]
Switch = FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Machines:
    """What a training runs on; its results are the same on any devices of one kind."""

    devices: Literal["all"] | int = "all"
    """Devices to train on: all, or so many of each process; on a CPU, so many virtual ones."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes that train together, or auto: as jax detects."""
    num_processes: int | None = None
    """How many train together."""
    process_id: int | None = None
    """Which of them this is, from 0."""


LOCAL = Machines()
"""All devices of this machine, and no other process."""


@dataclass(frozen=True)
class List:
    """Show what there is: name, study, figure of the paper, minutes."""

    json: Switch = False
    """Print JSON."""


@dataclass(frozen=True)
class Run:
    """Train and analyze one experiment."""

    name: str
    preset: str
    out: Path | None
    shard: str | None
    machines: Machines
    config: Any


@dataclass(frozen=True)
class Reproduce:
    """Run all experiments and write one page with the ledger of their claims."""

    preset: Preset = "quick"
    """Sizes: enough for verdicts within minutes, or those of the papers."""
    only: str = "*"
    """Names of the experiments to run, as a pattern: 'spikes-*'."""
    out: OptionalDirectory = None
    """Where to write; by default runs/reproduce-PRESET."""
    jobs: int | None = None
    """Experiments at a time; by default one per core, 4 at most, and 1 with an accelerator."""
    strict: Switch = False
    """Exit with status 1 when a verdict differs from what is expected."""
    json: Switch = False
    """Print the ledger as JSON."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was interrupted."""

    directory: Positional[Directory]
    """Of the run."""
    retrain: Switch = False
    """Train again what is lost, or what this version cannot go on from."""
    machines: Annotated[Machines, arg(name="", help="")] = LOCAL


@dataclass(frozen=True)
class Merge:
    """Join the shards of a run, and analyze it."""

    out: Positional[Directory]
    """Where to write."""
    shards: Positional[tuple[Path, ...]]
    """Directories of all shards."""


@dataclass(frozen=True)
class Report:
    """Write one HTML page for a run, or for all runs in a directory, and show the ledger."""

    directory: Positional[Directory]
    """Of the run, or holding runs."""
    json: Switch = False
    """Print the ledger as JSON."""


@dataclass(frozen=True)
class Analyze:
    """Derive claims and figures again from stored results, without training."""

    directory: Positional[Directory]
    """Of the run."""
    json: Switch = False
    """Print the claims as JSON."""


@dataclass(frozen=True)
class Compare:
    """Show what differs between two runs: configuration, versions, claims."""

    first: Positional[Directory]
    """Directory of one run."""
    second: Positional[Directory]
    """Directory of the other."""
    json: Switch = False
    """Print JSON."""


Command = List | Run | Reproduce | Resume | Merge | Report | Analyze | Compare
COMMANDS = {
    kind.__name__.lower(): kind
    for kind in (List, Run, Reproduce, Resume, Merge, Report, Analyze, Compare)
}
