"""A run directory: one configuration of one experiment, with everything that came of it.

``config.json`` (configuration and provenance), ``part-*.nc`` (results), ``checkpoints/``,
``claims.json``, ``figures/*.png`` and ``*.pdf``, ``tables/*.csv``, ``.lock``. Every file is written
under a temporary name and renamed, so that a run that is killed leaves whole files only. A
directory never mixes two configurations.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import config_file, files, folders
from experiments.errors import UserError
from experiments.experiment import Analysis, Experiment
from experiments.provenance import differences, now, provenance
from experiments.serialization import decode, encode
from experiments.shard import Shard

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
        shard: which share of the runs is trained here, None for all.
    """

    path: Path
    experiment: Experiment
    preset: str
    config: Any
    shard: Shard | None = None

    @classmethod
    def open(cls, path: Path, catalogue: Mapping[str, Experiment]) -> "RunDirectory":
        """The run that is stored at a path.

        Raises:
            UserError: there is none, or the experiment has changed since.
        """
        stored = config_file.read(path)
        experiment = catalogue.get(stored["experiment"])
        if experiment is None:
            raise UserError(f"{path}: holds an unknown experiment, {stored['experiment']!r}")
        try:
            config = decode(type(experiment.presets[stored["preset"]]), stored["config"])
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}/config.json: {experiment.name} takes another configuration now ({error})"
            ) from error
        if stored["shard"] == "merging":
            raise UserError(
                f"{path} is half merged; repeat: python -m experiments merge {path} DIR..."
            )
        return cls(path, experiment, stored["preset"], config, Shard.parse(stored["shard"]))

    @classmethod
    def prepare(
        cls,
        path: Path,
        experiment: Experiment,
        preset: str,
        config: Any,
        shard: Shard | None = None,
    ) -> "RunDirectory":
        """The place for a run, new or begun before with the same configuration; writes nothing.

        Raises:
            UserError: the path holds something else, or cannot be written.
        """
        if folders.holds_run(path):
            stored = config_file.read(path)
            here = {
                "experiment": experiment.name,
                "shard": None if shard is None else str(shard),
                "config": encode(config),
            }
            there = {name: stored[name] for name in here}
            if here != there:
                raise UserError(
                    f"{path} holds another configuration ({_describe(there, here)});"
                    " choose another directory with --out, or remove it"
                )
        elif folders.holds_anything(path):
            raise UserError(f"{path} holds other files and no run; choose another --out")
        files.require_writable(path)
        return cls(path, experiment, preset, config, shard)

    @property
    def stored(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        return config_file.read(self.path)

    @property
    def exists(self) -> bool:
        """Whether anything has been written yet."""
        return folders.holds_run(self.path)

    @property
    def trained(self) -> bool:
        """Whether all training has ended."""
        return self.exists and self.stored["trained"] is not None

    @property
    def whole(self) -> bool:
        """Whether all training has ended and none of its results has been lost.

        Raises:
            UserError: a file is damaged or comes from elsewhere.
        """
        return self.trained and not _incomplete(self._parts())

    @property
    def finished(self) -> bool:
        """Whether the results are whole and, unless it is a shard, the claims are stored.

        Raises:
            UserError: a file is damaged or comes from elsewhere.
        """
        analyzed = self.shard is not None or (self.path / "claims.json").exists()
        return analyzed and self.whole

    def create(self) -> None:
        """Writes ``config.json``, or notes in it that the run is being resumed."""
        shard = None if self.shard is None else str(self.shard)
        origin = provenance(self.experiment, self.preset, self.config, shard)
        if self.exists:
            stored = self.stored
            self._note(resumed=[*stored["resumed"], origin])
            return
        config_file.write(
            self.path,
            {
                "experiment": self.experiment.name,
                "preset": self.preset,
                "x64": self.experiment.x64,
                "shard": shard,
                "config": encode(self.config),
                "provenance": origin,
                "resumed": [],
                "trained": None,
                "analyzed": [],
            },
        )

    def finish(self, seconds: float, trainings: Sequence[str]) -> None:
        """Notes that these trainings, all there are, have ended, and what the last session took."""
        trained = {"date": now(), "seconds": round(seconds, 1), "trainings": list(trainings)}
        self._note(trained=trained)

    def results(self) -> "dict[str, xarray.Dataset]":
        """The stored results by the name of the training.

        Raises:
            UserError: training has not ended, or a file is missing, damaged or from elsewhere.
        """
        from phenodl import results

        found = self._whole_parts()
        try:
            return {name: results.merge(leading) for name, leading in found.items()}
        except results.ResultError as error:
            raise UserError(str(error)) from error

    def save(self, analysis: Analysis) -> None:
        """Writes claims, figures and tables, and removes what an earlier analysis alone wrote."""
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
            for figure in analysis.figures.values():
                plots.settle(figure)
            for path, content in contents.items():
                files.write(path, content)
        for path in self.outputs():
            if path not in contents:
                path.unlink()
        self._note(analyzed=[str(path.relative_to(self.path)) for path in contents])
        files.write(self.path / "claims.json", claims.dumps(analysis.claims))

    def outputs(self, pattern: str = "*") -> list[Path]:
        """The figures and tables that the last analysis wrote, not what a user put beside them.

        Args:
            pattern: of their paths in the run directory.
        """
        ours = set(self.stored["analyzed"])
        kinds = ("figures/*.png", "figures/*.pdf", "tables/*.csv")
        found = {
            path.relative_to(self.path): path for kind in kinds for path in self.path.glob(kind)
        }
        return [
            path
            for place, path in sorted(found.items())
            if str(place) in ours and place.match(pattern) and self._holds(path)
        ]

    def _holds(self, path: Path) -> bool:
        """Whether a file is one of this directory's, and no link to another."""
        return path.is_file() and path.resolve() == self.path.resolve() / path.relative_to(
            self.path
        )

    def claims(self) -> "list[Claim]":
        """The stored claims.

        Raises:
            UserError: there are none yet, or the file is damaged.
        """
        from experiments import claims

        path = self.path / "claims.json"
        try:
            return claims.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path} has no claims yet: python -m experiments analyze {self.path}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read as claims ({error!r})") from error

    def require_presentable(self) -> None:
        """Whether claims are stored and nothing that they rest on has been lost.

        Raises:
            UserError: says what is missing, damaged or from elsewhere.
        """
        self._whole_parts()
        self.claims()

    def _note(self, **fields: Any) -> None:
        config_file.write(self.path, self.stored | fields)

    def _parts(self) -> "dict[str, list[xarray.Dataset]]":
        """The leading parts of every training, once all have ended."""
        from experiments import parts

        stored = self.stored
        names = stored["trained"]["trainings"]
        for path in parts.unknown(self.path, names):
            raise UserError(f"{path}: belongs to no training of this run; {parts.remedy(path)}")
        return {name: list(parts.leading(self.path, stored, name)) for name in names}

    def _whole_parts(self) -> "dict[str, list[xarray.Dataset]]":
        """All parts of every training.

        Raises:
            UserError: training has not ended, or a file is missing, damaged or from elsewhere.
        """
        advice = f"python -m experiments resume {self.path}"
        if self.shard is not None:
            raise UserError(
                f"{self.path} holds shard {self.shard} of a run; join all of them first:"
                " python -m experiments merge OUT DIR..."
            )
        if not self.trained:
            raise UserError(f"{self.path} is not finished: {advice}")
        found = self._parts()
        if lacking := _incomplete(found):
            lost = ", ".join(lacking)
            raise UserError(f"{self.path} has lost results of {lost}: {advice} --retrain")
        return found


def _incomplete(found: "Mapping[str, list[xarray.Dataset]]") -> list[str]:
    """The trainings whose parts do not reach to their end."""
    from experiments import parts

    return [name for name, leading in found.items() if not parts.complete(leading)]


def _describe(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    for name in ("experiment", "shard"):
        if there[name] != here[name]:
            return f"{name}: {there[name]} there, {here[name]} here"
    pairs = differences(there["config"], here["config"]).items()
    shown = [f"{flag}: {old} there, {new} here" for flag, (old, new) in pairs]
    more = [f"{len(shown) - 3} more"] if len(shown) > 3 else []
    return "; ".join(shown[:3] + more)
