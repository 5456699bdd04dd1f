"""A run directory: one configuration of one experiment, with everything that came of it.

``config.json`` (configuration and provenance), ``part-*.nc`` (results), ``checkpoints/``,
``claims.json``, ``figures/*.png`` and ``*.pdf``, ``tables/*.csv``. Every file is written under a
temporary name and renamed, so that a run that is killed leaves whole files only. A directory
never mixes two configurations.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import files
from experiments.errors import UserError
from experiments.experiment import Analysis, Experiment
from experiments.provenance import differences, now, provenance
from experiments.serialization import decode, encode

if TYPE_CHECKING:
    import xarray

    from experiments.claims import Claim


@dataclass(frozen=True)
class RunDirectory:
    """The place of one run.

    Attributes:
        path: of the directory; it need not exist before :meth:`create`.
        experiment: that runs here.
        preset: its name.
        config: the configuration, the preset's or with changes.
    """

    path: Path
    experiment: Experiment
    preset: str
    config: Any

    @classmethod
    def open(cls, path: Path, catalogue: Mapping[str, Experiment]) -> "RunDirectory":
        """The run that is stored at a path.

        Raises:
            UserError: there is none, or the experiment has changed since.
        """
        stored = _read_config(path)
        experiment = catalogue.get(stored["experiment"])
        if experiment is None:
            raise UserError(f"{path}: holds an unknown experiment, {stored['experiment']!r}")
        try:
            config = decode(type(experiment.presets[stored["preset"]]), stored["config"])
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}/config.json: {experiment.name} takes another configuration now ({error})"
            ) from error
        return cls(path, experiment, stored["preset"], config)

    @classmethod
    def prepare(
        cls, path: Path, experiment: Experiment, preset: str, config: Any
    ) -> "RunDirectory":
        """The place for a run, new or begun before with the same configuration; writes nothing.

        Raises:
            UserError: the path holds something else, or cannot be written.
        """
        if (path / "config.json").exists():
            stored = _read_config(path)
            here = {"experiment": experiment.name, "config": encode(config)}
            there = {name: stored[name] for name in here}
            if here != there:
                raise UserError(
                    f"{path} holds another configuration ({_describe(there, here)});"
                    " choose another directory with --out, or remove it"
                )
        elif path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path} holds other files and no run; choose another --out")
        files.require_writable(path)
        return cls(path, experiment, preset, config)

    @property
    def stored(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        return _read_config(self.path)

    @property
    def exists(self) -> bool:
        """Whether anything has been written yet."""
        return (self.path / "config.json").exists()

    @property
    def trained(self) -> bool:
        """Whether all training has ended."""
        return self.exists and self.stored["trained"] is not None

    @property
    def analyzed(self) -> bool:
        """Whether all training has ended and its claims are stored."""
        return self.trained and (self.path / "claims.json").exists()

    def create(self) -> None:
        """Writes ``config.json``, or notes in it that the run is being resumed."""
        origin = provenance(self.experiment, self.preset, self.config)
        if self.exists:
            stored = self.stored
            self._write_config(stored | {"resumed": [*stored["resumed"], origin]})
            return
        self._write_config(
            {
                "experiment": self.experiment.name,
                "preset": self.preset,
                "x64": self.experiment.x64,
                "config": encode(self.config),
                "provenance": origin,
                "resumed": [],
                "trained": None,
            }
        )

    def finish(self, seconds: float) -> None:
        """Notes that all training has ended, and what the last session of it took."""
        self._write_config(self.stored | {"trained": {"date": now(), "seconds": round(seconds, 1)}})

    def results(self) -> "dict[str, xarray.Dataset]":
        """The stored results by the name of the training.

        Raises:
            UserError: training has not ended, or a file is damaged.
        """
        from phenodl import results

        if not self.trained:
            raise UserError(
                f"{self.path} is not finished: python -m experiments resume {self.path}"
            )
        try:
            names = results.trainings(self.path)
            return {name: results.load(self.path, name) for name in names}
        except results.ResultError as error:
            raise UserError(str(error)) from error

    def save(self, analysis: Analysis) -> None:
        """Writes claims, figures and tables, in place of those of an earlier analysis."""
        from experiments import claims
        from phenodl import plots

        contents: dict[Path, str | Callable[[Path], object]] = {}
        for name, figure in analysis.figures.items():
            png, pdf = (self.path / "figures" / f"{name}.{kind}" for kind in ("png", "pdf"))
            contents[png] = functools.partial(figure.savefig, format="png")
            contents[pdf] = functools.partial(
                figure.savefig, format="pdf", metadata={"CreationDate": None}
            )
        for name, rows in analysis.tables.items():
            contents[self.path / "tables" / f"{name}.csv"] = files.to_csv(rows)
        with plots.style():
            for path, content in contents.items():
                files.write(path, content)
        for folder in ("figures", "tables"):
            for path in (self.path / folder).glob("*"):
                if path not in contents:
                    path.unlink()
        files.write(self.path / "claims.json", claims.dumps(analysis.claims))

    def claims(self) -> "list[Claim]":
        """The stored claims.

        Raises:
            UserError: there are none yet, or the file is damaged.
        """
        from experiments import claims

        path = self.path / "claims.json"
        try:
            return claims.loads(path.read_text())
        except FileNotFoundError:
            advice = "analyze" if self.trained else "resume"
            raise UserError(
                f"{self.path} has no claims yet: python -m experiments {advice} {self.path}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read as claims ({error!r})") from error

    def _write_config(self, fields: Mapping[str, Any]) -> None:
        text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
        files.write(self.path / "config.json", text)


def runs_in(path: Path, catalogue: Mapping[str, Experiment]) -> list[RunDirectory]:
    """The run stored at a path, or the runs in the folders of a path.

    Raises:
        UserError: there is none.
    """
    if (path / "config.json").exists():
        return [RunDirectory.open(path, catalogue)]
    found = sorted(path.glob("*/config.json")) if path.is_dir() else []
    if not found:
        raise UserError(f"{path} holds no run (no config.json)")
    return [RunDirectory.open(each.parent, catalogue) for each in found]


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        stored = json.loads(file.read_text())
        missing = {"experiment", "preset", "config", "provenance", "trained"} - set(stored)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} holds no run (no config.json)") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error
    if missing:
        raise UserError(f"{file}: describes no run (no {', '.join(sorted(missing))})")
    return stored


def _describe(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if there["experiment"] != here["experiment"]:
        return f"{there['experiment']}, not {here['experiment']}"
    pairs = differences(there["config"], here["config"]).items()
    shown = [f"{flag}: {old} there, {new} here" for flag, (old, new) in pairs]
    more = [f"{len(shown) - 3} more"] if len(shown) > 3 else []
    return "; ".join(shown[:3] + more)
