"""Where a result comes from: versions, commit, devices, command, date."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.experiment import Experiment
from experiments.serialization import encode, flatten

_PACKAGES = ("phenodl", "jax", "jaxlib", "optax", "flax", "numpy", "scipy", "xarray")


def provenance(
    experiment: Experiment, preset: str, config: Any, shard: str | None = None
) -> dict[str, Any]:
    """What ``config.json`` says on the origin of a run. Starts the jax backend."""
    import jax

    kinds = Counter(f"{device.platform} {device.device_kind}" for device in jax.devices())
    return {
        "command": command(experiment, preset, config, shard),
        "date": now(),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "processes": jax.process_count(),
        "devices": [f"{count} x {kind}" for kind, count in kinds.items()],
        "cores": cores(),
    }


def cores() -> int:
    """How many this process may use, which a scheduler can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def now() -> str:
    """The date and time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of the packages that decide the numbers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of this checkout, marked ``-dirty`` with uncommitted changes; None outside git."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(describe, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def command(experiment: Experiment, preset: str, config: Any, shard: str | None = None) -> str:
    """The shortest command that runs this configuration again."""
    default = flatten(encode(experiment.presets[preset]))
    words = ["python", "-m", "experiments", "run", experiment.name, "--preset", preset]
    words += [] if shard is None else ["--shard", shard]
    for flag, value in flatten(encode(config)).items():
        if value != default[flag]:
            words += _words(flag, value)
    return shlex.join(words)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The flattened entries in which two nested dicts differ; None where one has no such entry."""
    left, right = flatten(ours), flatten(theirs)
    names = dict.fromkeys([*left, *right])
    pairs = {name: (left.get(name), right.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _words(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{flag}", *map(str, values)]
