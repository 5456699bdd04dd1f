"""What each command does. Returns its exit status; jax is imported only where something runs."""

import json
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import arguments, cluster, execution, folders, ledger, workers
from experiments.errors import UserError, printable
from experiments.experiment import Experiment
from experiments.run_directory import RunDirectory
from experiments.shard import Shard

if TYPE_CHECKING:
    from experiments.claims import Claim

Catalogue = Mapping[str, Experiment]


def list_experiments(command: arguments.List, catalogue: Catalogue) -> int:
    """Shows what there is."""
    if command.json:
        _print_json(ledger.as_json(catalogue))
    else:
        ledger.console().print(ledger.list_table(catalogue.values()))
    return 0


def run(command: arguments.Run, catalogue: Catalogue) -> int:
    """Trains and analyzes one experiment in its own directory."""
    experiment = catalogue[command.name]
    shard = Shard.parse(command.shard)
    default = (
        experiment.name if shard is None else f"{experiment.name}-{shard.number}of{shard.count}"
    )
    out = command.out or Path("runs") / default
    run = RunDirectory.prepare(out, experiment, command.preset, command.config, shard)
    return _complete(run, command.machines)


def resume(command: arguments.Resume, catalogue: Catalogue) -> int:
    """Goes on with a stored run."""
    stored = RunDirectory.open(command.directory, catalogue)
    run = RunDirectory.prepare(
        stored.path, stored.experiment, stored.preset, stored.config, stored.shard
    )
    return _complete(run, command.machines, command.retrain)


def merge(command: arguments.Merge, catalogue: Catalogue) -> int:
    """Joins the shards of a run and analyzes it."""
    from experiments import merging

    shards = [RunDirectory.open(folder, catalogue) for folder in command.shards]
    return _complete(merging.merge(command.out, shards))


def analyze(command: arguments.Analyze, catalogue: Catalogue) -> int:
    """Derives claims and figures again."""
    run = RunDirectory.open(command.directory, catalogue)
    execution.prepare_jax()
    execution.analyze(run)
    _show(run.claims(), command.json)
    return 0


def report(command: arguments.Report, catalogue: Catalogue) -> int:
    """Writes the page of one run, or of all analyzed runs in a directory, and shows the ledger."""
    from experiments.report import write_report

    done: list[RunDirectory] = []
    broken: dict[str, str] = {}
    for folder in folders.runs_in(command.directory):
        try:
            run = RunDirectory.open(folder, catalogue)
            run.require_presentable()
            done.append(run)
        except UserError as error:
            broken[folder.name] = str(error)
    if not done:
        raise UserError(next(iter(broken.values())))
    page = write_report(command.directory / "report.html", done, broken)
    _show([claim for run in done for claim in run.claims()], command.json)
    _say(f"page: {page}")
    return 0


def reproduce(command: arguments.Reproduce, catalogue: Catalogue) -> int:
    """Runs all experiments, whatever happens to one of them, and writes the page."""
    from experiments.report import write_report

    chosen = [each for name, each in catalogue.items() if fnmatch(name, command.only)]
    if not chosen:
        raise UserError(f"--only {command.only}: no experiment has such a name")
    if cluster.several(arguments.LOCAL):
        raise UserError("reproduce is for one process; several train one experiment with run")
    out = command.out or Path("runs") / f"reproduce-{command.preset}"
    if command.jobs is not None and command.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {command.jobs}")
    folders.require_free(out)
    runs = [
        RunDirectory.prepare(out / each.name, each, command.preset, each.presets[command.preset])
        for each in chosen
    ]
    failures = _complete_all(runs, command.jobs or workers.default_count())
    done = [run for run in runs if run.experiment.name not in failures]
    claims = [claim for run in done for claim in run.claims()]
    if command.json:
        _print_json({"claims": [claim.to_json() for claim in claims], "failed": failures})
    else:
        _show(claims)
    for name, reason in failures.items():
        _say(f"failed: {name}: {reason}")
    if done:
        _say(f"page: {write_report(out / 'report.html', done, failures)}")
    surprising = command.strict and any(claim.surprising for claim in claims)
    return 1 if failures or surprising else 0


def compare(command: arguments.Compare, catalogue: Catalogue) -> int:
    """Shows what differs between two runs."""
    from experiments.comparison import compare_runs, comparison_table

    first, second = (RunDirectory.open(path, catalogue) for path in (command.first, command.second))
    differing = compare_runs(first, second)
    if command.json:
        _print_json(differing)
    elif any(differing.values()):
        ledger.console().print(comparison_table(differing, str(first.path), str(second.path)))
    else:
        print("no difference in configuration, versions or claims")
    return 0


def _complete_all(runs: "Sequence[RunDirectory]", jobs: int) -> dict[str, str]:
    """Completes those runs that are not finished; returns what went wrong, by experiment."""
    numbers = {run.path: number for number, run in enumerate(runs, start=1)}
    failures: dict[str, str] = {}
    open_runs = []
    for run in runs:
        try:
            if not run.finished:
                open_runs.append(run)
        except UserError as error:
            failures[run.experiment.name] = str(error)

    def announce(run: RunDirectory) -> None:
        minutes = run.experiment.minutes[run.preset]
        _say(f"[{numbers[run.path]}/{len(runs)}] {run.experiment.name} (about {minutes:g} min)")

    try:
        for run, failure in workers.complete(open_runs, jobs, announce):
            if failure is not None:
                failures[run.experiment.name] = failure
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise
    return failures


def _complete(
    run: RunDirectory,
    machines: arguments.Machines = arguments.LOCAL,
    retrain: bool = False,
) -> int:
    """Finishes one run and shows its claims."""
    if run.finished:
        _say(f"{run.path} holds this configuration, finished; nothing is trained again")
    else:
        try:
            if not execution.complete(run, ledger.console(stderr=True), machines, retrain):
                return 0
        except KeyboardInterrupt:
            if run.exists:
                _say(f"interrupted; go on with: {arguments.PROGRAM} resume {run.path}")
            raise
    if run.shard is not None:
        _say(f"shard {run.shard}: {run.path}   when all are: {arguments.PROGRAM} merge OUT DIR...")
        return 0
    _show(run.claims())
    _say(f"results: {run.path}   page: {arguments.PROGRAM} report {run.path}")
    return 0


def _show(claims: "Sequence[Claim]", as_json: bool = False) -> None:
    if as_json:
        _print_json([claim.to_json() for claim in claims])
    elif claims:
        output = ledger.console()
        output.print(ledger.ledger_table(claims))
        output.print(ledger.tally(claims))


def _print_json(value: Any) -> None:
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(value, indent=2, ensure_ascii=not unicode))


def _say(text: str) -> None:
    """Tells the user something that is not output."""
    print(printable(text), file=sys.stderr, flush=True)
