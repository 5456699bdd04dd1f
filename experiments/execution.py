"""Runs an experiment in its directory: training, then analysis."""

import os
import time
from pathlib import Path

from rich.console import Console

from experiments import arguments, cluster, lock
from experiments.errors import UserError
from experiments.provenance import cores
from experiments.run_directory import RunDirectory

_EXTRAS = {"sklearn": "data", "mlxtend": "data"}


def prepare_jax(machines: arguments.Machines = arguments.LOCAL) -> None:
    """Settings of the process: virtual devices, and a cache of compiled programs on disk.

    A CPU counts as one device per core unless the user says otherwise.

    The cache (``$XDG_CACHE_HOME/phenodl``, by default ``~/.cache/phenodl``) takes most of the time
    out of a second start; jax's own variables move it (JAX_COMPILATION_CACHE_DIR) or turn it off
    (JAX_ENABLE_COMPILATION_CACHE=false). Call it before the jax backend starts.
    """
    import jax

    virtual = cores() if machines.devices == "all" else machines.devices
    if virtual < 1:
        raise UserError(f"--devices must be at least 1 or all, got {virtual}")
    jax.config.update("jax_num_cpu_devices", virtual)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phenodl"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def complete(
    run: RunDirectory,
    console: Console | None = None,
    machines: arguments.Machines = arguments.LOCAL,
    retrain: bool = False,
) -> bool:
    """Trains whatever is not trained yet, and analyzes unless it is a shard.

    Args:
        run: where.
        console: for the progress; None is silent.
        machines: what to train on.
        retrain: whether to train again what is lost or does not fit.

    Returns:
        Whether there is a result to show: several processes have trained it together, and the first
        one has it.

    Raises:
        UserError: as :func:`train` and :func:`analyze`.
    """
    prepare_jax(machines)
    if cluster.several(machines):
        cluster.join(machines, f"{arguments.PROGRAM} resume {run.path}")
    train(run, console, machines, retrain)
    first = cluster.place() == 0
    cluster.part()
    if first and run.shard is None:
        analyze(run)
    return first


def train(
    run: RunDirectory,
    console: Console | None = None,
    machines: arguments.Machines = arguments.LOCAL,
    retrain: bool = False,
) -> None:
    """Trains whatever is not trained yet, together with the other processes if there are any.

    Raises:
        UserError: a package of an extra is missing, a result file is damaged or missing, a
            checkpoint does not fit, or another process is at work on this run.
    """
    with cluster.held_by_first(lock.held(run.path)):
        if cluster.agree(not run.whole):
            _train(run, console, machines, retrain)


def _train(
    run: RunDirectory, console: Console | None, machines: arguments.Machines, retrain: bool
) -> None:
    import jax

    from experiments.recorder import Recorder
    from phenodl.results import ResultError

    begin = time.monotonic()
    own_console = console if cluster.place() == 0 else None
    recorder = Recorder(run, own_console, cluster.devices(machines.devices), retrain)
    try:
        with jax.enable_x64(run.experiment.x64):
            run.experiment.load().train(run.config, recorder)
    except ImportError as error:
        raise _missing_package(error) from error
    except ResultError as error:
        raise UserError(str(error)) from error
    except jax.errors.JaxRuntimeError as error:
        if cluster.alone():
            raise
        raise UserError(
            f"another process of the run is lost ({_first_line(error)}); go on with:"
            f" {arguments.PROGRAM} resume {run.path}"
        ) from error

    def finish() -> None:
        if not run.exists:
            run.create()
        run.finish(time.monotonic() - begin, recorder.trainings)

    cluster.lead(finish)


def analyze(run: RunDirectory) -> None:
    """Derives claims, figures and tables from the stored results and stores them.

    Raises:
        UserError: training has not ended, a result file is missing, damaged or from elsewhere, or
            another process is at work on this run.
    """
    import jax

    with lock.held(run.path):
        results = run.results()
        with jax.enable_x64(run.experiment.x64):
            run.save(run.experiment.load().analyze(run.config, results))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _missing_package(error: ImportError) -> Exception:
    """What to tell the user when a package of an extra is missing; other errors stay themselves."""
    if "phenodl[" in str(error):
        return UserError(str(error))
    package = (error.name or "").partition(".")[0]
    if package in _EXTRAS:
        return UserError(f"{package} is missing: pip install 'phenodl[{_EXTRAS[package]}]'")
    return error
