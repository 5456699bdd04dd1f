"""``python -m benchmarks``: prints what was measured as tables in Markdown."""

import argparse
import importlib
import importlib.util
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

GROUPS = {
    "sine": "Adam on a 1-20-1 tanh network, 64 seeds, float32",
    "digits": "Adam on a CNN, 50 digits, 8 seeds, float32",
    "transformer": "Adam on a 2-layer transformer, 64 x 8 tokens per batch, 2 seeds, float32",
    "control": "controllers of spikes and their rivals, on the trainings that spike",
    "completion": "gradient flow of factorizations, float64",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=GROUPS,
        default=list(GROUPS),
        metavar="GROUP",
        help=f"measure these alone: {', '.join(GROUPS)}",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, a minute in all")
    options = parser.parse_args(arguments)
    keep_to_one_core()
    print(machine(), flush=True)
    for name in options.only:
        print(f"\n## {name}: {GROUPS[name]}\n", flush=True)
        for line in importlib.import_module(f"benchmarks.{name}").report(options.quick):
            print(line, flush=True)


def keep_to_one_core() -> None:
    """Has everything run on one core, where the system can: costs are per core, for all sides.

    It must come before JAX starts its threads.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine() -> str:
    """Versions and processor, in a line."""
    packages = [
        name for name in ("jax", "optax", "numpy", "torch") if importlib.util.find_spec(name)
    ]
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    python = f"Python {platform.python_version()}"
    return f"{', '.join([python, *versions])}; one core of {processor()}."


def processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
