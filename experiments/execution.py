"""Runs an experiment in its directory: training, then analysis."""

import os
import time
from pathlib import Path

from rich.console import Console

from experiments import lock
from experiments.errors import UserError
from experiments.provenance import cores
from experiments.run_directory import RunDirectory

_EXTRAS = {"sklearn": "data", "mlxtend": "data"}


def prepare_jax() -> None:
    """Settings of the process: a device per core, and a cache of compiled programs on disk.

    The cache (``$XDG_CACHE_HOME/phenodl``, by default ``~/.cache/phenodl``) takes most of the time
    out of a second start; jax's own variables move it (JAX_COMPILATION_CACHE_DIR) or turn it off
    (JAX_ENABLE_COMPILATION_CACHE=false). Call it before the jax backend starts.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phenodl"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def complete(run: RunDirectory, console: Console | None = None) -> None:
    """Trains whatever is not trained yet, and analyzes.

    Raises:
        UserError: as :func:`train` and :func:`analyze`.
    """
    prepare_jax()
    train(run, console)
    analyze(run)


def train(run: RunDirectory, console: Console | None = None) -> None:
    """Trains whatever is not trained yet.

    Raises:
        UserError: a package of an extra is missing, a result file is damaged, or another process
            is at work on this run.
    """
    with lock.held(run.path):
        if not run.whole:
            _train(run, console)


def _train(run: RunDirectory, console: Console | None) -> None:
    import jax

    from experiments.recorder import Recorder
    from phenodl.results import ResultError

    begin = time.monotonic()
    recorder = Recorder(run, console)
    try:
        with jax.enable_x64(run.experiment.x64):
            run.experiment.load().train(run.config, recorder)
    except ImportError as error:
        raise _missing_package(error) from error
    except ResultError as error:
        raise UserError(str(error)) from error
    if not run.exists:
        run.create()
    run.finish(time.monotonic() - begin, recorder.trainings)


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


def _missing_package(error: ImportError) -> Exception:
    """What to tell the user when a package of an extra is missing; other errors stay themselves."""
    if "phenodl[" in str(error):
        return UserError(str(error))
    package = (error.name or "").partition(".")[0]
    if package in _EXTRAS:
        return UserError(f"{package} is missing: pip install 'phenodl[{_EXTRAS[package]}]'")
    return error
