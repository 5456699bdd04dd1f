"""One of several equal shares of the runs of a sweep, trained by itself and merged afterwards."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.errors import UserError

if TYPE_CHECKING:
    from phenodl.sweep import Runs


@dataclass(frozen=True)
class Shard:
    """The share ``number``, from 1, of ``count``; it prints as ``2/8``."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str | None) -> "Shard | None":
        """What ``--shard`` says.

        Raises:
            UserError: it is no share.

        Example:
            >>> Shard.parse("2/8")
            Shard(number=2, count=8)
        """
        if text is None:
            return None
        numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        shard = cls(*map(int, numbers.groups())) if numbers else None
        if shard is None or not 1 <= shard.number <= shard.count:
            raise UserError(f"--shard must be I/N with I from 1 to N, got {text}")
        return shard

    def take(self, runs: "Runs", name: str) -> "Runs":
        """Every ``count``-th run: each share holds something of every axis.

        Raises:
            UserError: there are fewer runs than shares.
        """
        places = range(self.number - 1, len(runs.id), self.count)
        if not places:
            raise UserError(f"--shard {self}: the sweep {name!r} has {len(runs.id)} runs only")
        return runs.take(places)
