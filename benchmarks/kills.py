"""``python -m benchmarks.kills``: runs killed by SIGKILL and resumed, against undisturbed ones.

Every trial starts from the same ``config.json``, so that results must agree file by file and byte
by byte. A run is killed somewhere: after a random time, in the write of a part or of a checkpoint,
between a file and its final name, at a border. What resumes it may be killed as well.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

EXPERIMENTS = {
    "spikes-sine": ("--seeds", "4", "--steps", "2000"),
    "completion-disconnected": (),
    "spikes-polynomial": (),
}
"""A network that spikes, gradient flow in double precision, and several trainings in one run."""

PLACES = {
    "in a step": "phenodl.training:train",
    "in a part's write": "phenodl.results:write_part",
    "before a rename": "phenodl.atomic:_sync",
    "in a checkpoint's write": "phenodl.checkpoint:save",
    "before the checksums": "phenodl.checkpoint:_digests",
    "at a border": "phenodl.results:from_chunk",
}
"""Where to kill: at a call of this function, or soon after."""

_PROCESS = """
import importlib, itertools, os, signal, sys, threading
from experiments import recorder
from experiments.__main__ import program

recorder.SECONDS_BETWEEN_CHECKPOINTS = 0.0
place, number, delay, package = sys.argv[1:5]
del sys.argv[1:5]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def armed(function, calls=itertools.count(1)):
    def call(*arguments, **options):
        if next(calls) == int(number):
            threading.Timer(float(delay), die).start() if float(delay) else die()
        return function(*arguments, **options)
    return call

if place:
    module, _, name = place.partition(":")
    module = importlib.import_module(module)
    setattr(module, name, armed(getattr(module, name)))
    if name == "train":
        recorder.train = module.train
program(package)
"""


@dataclass(frozen=True)
class Moment:
    """When to kill: ``delay`` seconds after the ``call``-th call of a function; 0 for never."""

    place: str = "never"
    call: int = 0
    delay: float = 0.0


NEVER = Moment()


def command_line(
    words: Sequence[str], folder: Path, moment: Moment = NEVER, package: str = "experiments"
) -> int:
    """The exit status of a command, run by a process of its own that dies at a moment."""
    place = PLACES.get(moment.place, "")
    arguments = [place, str(moment.call), str(moment.delay), package, *words]
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return done.returncode


def begun(finished: Path, folder: Path) -> None:
    """Makes a run directory that has begun as a finished one did, and no more."""
    stored = json.loads((finished / "config.json").read_text(encoding="utf-8"))
    stored |= {"resumed": [], "trained": None, "analyzed": []}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(stored), encoding="utf-8")


def difference(finished: Path, resumed: Path) -> str:
    """What tells a resumed run from an undisturbed one: lost, stray or other files; "" if none."""
    ours, theirs = _contents(resumed), _contents(finished)
    lost, stray = theirs.keys() - ours.keys(), ours.keys() - theirs.keys()
    other = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    named = {"lost": lost, "stray": stray, "other": other}
    return "; ".join(
        f"{what}: {', '.join(sorted(names))}" for what, names in named.items() if names
    )


def _contents(folder: Path) -> Mapping[str, bytes]:
    """The files by name, without those that say when they were written.

    Of checkpoints only what is half-written counts: a run killed in its last one ends without it.
    """
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        checkpoint = name.parts[0] == "checkpoints" and re.fullmatch(
            r"\d+(\.sha256)?", (*name.parts, "", "")[2]
        )
        if path.is_file() and not checkpoint and name.name not in ("config.json", ".lock"):
            found[str(name)] = path.read_bytes()
    return found


def survive(finished: Path, folder: Path, moments: Sequence[Moment], package: str) -> int:
    """Resumes a run that is killed at each of these moments, to its end; how often it was."""
    begun(finished, folder)
    words = ("resume", folder.name)
    kills = sum(command_line(words, folder.parent, each, package) != 0 for each in moments)
    command_line(words, folder.parent, package=package)
    return kills


def random_moment(source: random.Random) -> Moment:
    """A place, one of its first calls, and in it some time."""
    place = source.choice(list(PLACES))
    call = 1 if place == "in a step" else source.randint(1, 8)
    longest = {"in a step": 4.0, "in a part's write": 0.02, "in a checkpoint's write": 0.2}
    return Moment(place, call, source.uniform(0, longest.get(place, 0.0)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=36, help="how many at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    options = parser.parse_args(arguments)
    source = random.Random(options.seed)
    kills = failures = trials = 0
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        for name, flags in EXPERIMENTS.items():
            command_line(("run", name, *flags, "--out", name), folder)
        with ThreadPoolExecutor(options.jobs) as pool:
            while kills < options.kills:
                planned = []
                for _ in range(2 * options.jobs):
                    name = list(EXPERIMENTS)[trials % len(EXPERIMENTS)]
                    moments = [random_moment(source) for _ in range(source.choice((1, 1, 2)))]
                    planned.append((name, moments, folder / f"trial-{trials}"))
                    trials += 1
                clock = time.monotonic()
                outcomes = pool.map(
                    lambda plan: _trial(folder / plan[0], plan[2], plan[1]), planned
                )
                for (name, moments, _), (killed, wrong) in zip(planned, outcomes, strict=True):
                    kills += killed
                    failures += bool(wrong)
                    where = ", ".join(f"{each.place} ({each.call})" for each in moments)
                    print(f"{name}: {killed} kills, {where}: {wrong or 'same bytes'}", flush=True)
                print(f"# {time.monotonic() - clock:.0f} s", flush=True)
    print(f"{kills} kills in {trials} runs of {len(EXPERIMENTS)} experiments: {failures} differ")
    return 1 if failures else 0


def _trial(finished: Path, folder: Path, moments: Sequence[Moment]) -> tuple[int, str]:
    killed = survive(finished, folder, moments, "experiments")
    wrong = difference(finished, folder)
    shutil.rmtree(folder)
    return killed, wrong


if __name__ == "__main__":
    sys.exit(main())
