"""From words to a command: the grammar of the command line, and one line for each mistake.

tyro parses. An experiment's configuration contributes its own fields to ``run NAME``. Imports no
jax, so that help answers at once.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg, subcommand

from experiments.arguments import (
    COMMANDS,
    LOCAL,
    PROGRAM,
    Command,
    Machines,
    OptionalDirectory,
    OptionalFile,
    Run,
)
from experiments.errors import UserError, nearest
from experiments.experiment import Experiment
from experiments.serialization import encode, flatten


def parse(argv: Sequence[str], catalogue: Mapping[str, Experiment]) -> Command:
    """The command that the words ask for; none at all asks for the list.

    Raises:
        UserError: a word that is unknown, missing, or not valid where it stands.
        SystemExit: after help or a completion script has been printed.
    """
    argv = list(argv) or ["list"]
    _check_names(argv, catalogue)
    preset = _chosen_preset(argv)
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            parsed, unknown = tyro.cli(
                _grammar(catalogue, preset),
                args=argv,
                prog="experiments" if argv[0].startswith("--tyro-") else PROGRAM,
                description="Experiments on the training dynamics of neural networks.",
                return_unknown_args=True,
                config=(tyro.conf.OmitSubcommandPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_condense(complaints.getvalue())) from None
    if unknown:
        raise UserError(_unexpected(unknown[0], parsed))
    if isinstance(parsed, _RunChoice):
        return parsed.experiment.command
    return parsed


@dataclass
class _RunChoice:
    """What ``run`` is parsed into: a choice among the experiments, with its arguments."""

    experiment: Any


def _grammar(catalogue: Mapping[str, Experiment], preset: str) -> Any:
    """The type whose values are all valid command lines."""
    experiment = _union(_run_arguments(each, preset) for each in catalogue.values())
    run = dataclasses.make_dataclass("Run", [("experiment", experiment)], bases=(_RunChoice,))
    return _union(
        Annotated[
            run if kind is Run else kind, subcommand(name, description=inspect.getdoc(kind) or "")
        ]
        for name, kind in COMMANDS.items()
    )


def _run_arguments(experiment: Experiment, preset: str) -> Any:
    """The arguments of ``run NAME``: preset, directory, and the fields of its configuration.

    An experiment on a file, whose configuration has a field ``file``, takes it as a word too. One
    that lacks the preset refuses it as an invalid choice.
    """
    presets = tuple(experiment.presets)
    preset = preset if preset in presets else presets[0]
    default = experiment.presets[preset]
    takes_file = hasattr(default, "file")
    word = Annotated[OptionalFile, arg(help="The same as --file.")]
    minutes = ", ".join(f"{name} {experiment.minutes[name]:g} min" for name in presets)
    description = f"{experiment.summary} ({experiment.figure}; {minutes})"

    def command(chosen: Any) -> Run:
        config = _with_file(chosen.config, chosen.file) if takes_file else chosen.config
        return Run(
            experiment.name, chosen.preset, chosen.out, chosen.shard, chosen.machines, config
        )

    kind = dataclasses.make_dataclass(
        experiment.name,
        [
            *([("file", word, None)] if takes_file else []),
            (
                "preset",
                Annotated[Literal[presets], arg(help="Sizes that the flags below start from.")],
                preset,
            ),
            (
                "out",
                Annotated[
                    OptionalDirectory,
                    arg(help=f"Where to write; by default runs/{experiment.name}."),
                ],
                None,
            ),
            (
                "shard",
                Annotated[
                    str | None,
                    arg(metavar="I/N", help="Train the I-th of N shares of the runs; then merge."),
                ],
                None,
            ),
            ("machines", Annotated[Machines, arg(name="", help="")], LOCAL),
            ("config", Annotated[type(default), arg(name="", help="")], default),
        ],
        namespace={"command": property(command)},
        frozen=True,
    )
    kind.__doc__ = description
    return Annotated[kind, subcommand(experiment.name, description=description)]


def _with_file(config: Any, file: str | None) -> Any:
    """The configuration with the file that stands as a word, if there is one."""
    if file is None:
        return config
    if config.file is not None:
        raise UserError(f"one file at a time: got {file} and --file {config.file}")
    return dataclasses.replace(config, file=file)


def _union(kinds: Iterable[Any]) -> Any:
    return functools.reduce(operator.or_, kinds)


def _check_names(argv: Sequence[str], catalogue: Mapping[str, Experiment]) -> None:
    """Names command and experiment before tyro does, which would list them all."""
    command, *rest = argv
    if command.startswith("-"):
        return
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}{nearest(command, COMMANDS)}")
    if command == "run":
        if not rest or (rest[0].startswith("-") and not {"-h", "--help"} & set(rest)):
            raise UserError(f"run needs the name of an experiment first; {PROGRAM} lists them")
        if not rest[0].startswith("-") and rest[0] not in catalogue:
            raise UserError(f"unknown experiment {rest[0]!r}{nearest(rest[0], catalogue)}")


def _chosen_preset(argv: Sequence[str]) -> str:
    """The preset, known before parsing because the defaults of the other flags come from it."""
    preset = "quick"
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--preset":
            preset = value or following
    return preset


def _unexpected(word: str, parsed: Any) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    if isinstance(parsed, _RunChoice):
        chosen = parsed.experiment
        nested = flatten(encode(chosen.machines)) | flatten(encode(chosen.config))
        known = ["preset", "out", "shard", *nested]
    else:
        known = [name.removeprefix("machines.") for name in flatten(encode(parsed))]
    flag = word.partition("=")[0]
    return f"unknown flag {flag}{nearest(flag, [f'--{name}' for name in known])}"


_PLAINER = {
    r"invalid literal for int\(\) with base 10: (.*)": r"must be an integer, got \1",
    r"could not convert string to float: (.*)": r"must be a number, got \1",
    r"no type matching (?:\{None\}\|)?(.*) could be instantiated from \['(.*)'\]\.": (
        r"must be \1, got '\2'"
    ),
    r"invalid choice (.*) for argument '(.*)'. Expected one of \((.*)\)\.": (
        r"\2 must be one of \3, got \1"
    ),
    r"Missing from .* (\S+): (\S+) .*": r"\1 needs \2",
    r"Missing value for argument '(.*)'. Expected .*": r"\1 needs a value",
}


def _condense(box: str) -> str:
    """One line out of the box that tyro draws around an error: its first paragraph."""
    lines = "\n".join(line.strip("│| ") for line in box.strip().splitlines()[1:])
    paragraphs = filter(str.strip, re.split(r"(?m)^[─╰╯+-]*$", lines))
    text = " ".join(next(paragraphs, "not a valid command").split())
    for pattern, plainer in _PLAINER.items():
        text = re.sub(pattern, plainer, text)
    match = re.match(r"Error parsing (\S+): (.*)", text)
    if not match:
        return text
    place, message = match.groups()
    if place.startswith("-"):
        return f"{place} {message}"
    field, _, rest = message.partition(" ")
    prefix = place.rpartition("config")[2].strip(".")
    flag = ".".join(filter(None, [prefix, field])).replace("_", "-")
    return f"--{flag} {rest}"
