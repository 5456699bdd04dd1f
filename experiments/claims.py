"""The ledger: claims about the world, measured with an interval, judged by one rule.

A claim holds, or fails, when the whole interval lies on one side of its target; otherwise it is
undetermined, and more runs are needed.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.serialization import decode

Relation = Literal[">=", "<=", ">", "<", "in"]
Verdict = Literal["holds", "fails", "undetermined"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Target:
    """What the measured value is held against.

    Attributes:
        relation: how measured value and target compare; ``"in"`` means within bounds, inclusive.
        value: a number, or for ``"in"`` the pair of bounds.

    Example:
        >>> Target(">=", 0.95).verdict((0.97, 1.0)), Target("in", (1.9, 2.1)).verdict((1.8, 2.0))
        ('holds', 'undetermined')
    """

    relation: Relation
    value: float | Interval

    def __post_init__(self):
        bounds = 2 if self.relation == "in" else 1
        if self.relation not in (">=", "<=", ">", "<", "in") or np.size(self.value) != bounds:
            raise ValueError(f"no such target: {self.relation!r} {self.value!r}")

    def __str__(self) -> str:
        if isinstance(self.value, tuple):
            return f"in [{self.value[0]:g}, {self.value[1]:g}]"
        return f"{self.relation} {self.value:g}"

    def admits(self, value: float) -> bool:
        """Whether a single number meets the target."""
        if isinstance(self.value, tuple):
            return self.value[0] <= value <= self.value[1]
        return {
            ">=": value >= self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            "<": value < self.value,
        }[self.relation]

    def verdict(self, interval: Interval) -> Verdict:
        """Holds if all of the interval meets the target, fails if none of it does."""
        low, high = interval
        if math.isnan(low) or math.isnan(high):
            return "undetermined"
        if self.admits(low) and self.admits(high):
            return "holds"
        if isinstance(self.value, tuple):
            apart = high < self.value[0] or low > self.value[1]
        else:
            apart = not (self.admits(low) or self.admits(high))
        return "fails" if apart else "undetermined"


@dataclass(frozen=True)
class Claim:
    """A statement about the world with what was measured.

    Attributes:
        id: the experiment's name, a slash, and the claim's own: ``"spikes-digits/recall"``.
        statement: one sentence that can be true or false.
        source: paper and place, or who derived it.
        measured: the value.
        interval: of 95 % confidence; both ends equal for a number without sampling error.
        n: how many runs or events it rests on.
        target: that the value is held against.
        expected: the verdict that is known; some sentences of the papers fail as they stand.
    """

    id: str
    statement: str
    source: str
    measured: float
    interval: Interval
    n: int
    target: Target
    expected: Verdict = "holds"

    @property
    def verdict(self) -> Verdict:
        """By the rule of the ledger."""
        return self.target.verdict(self.interval)

    @property
    def surprising(self) -> bool:
        """Whether the verdict differs from what is expected."""
        return self.verdict != self.expected

    def to_json(self) -> dict[str, Any]:
        """As in ``claims.json``; numbers that are not finite become None."""
        return {
            "id": self.id,
            "statement": self.statement,
            "source": self.source,
            "measured": _finite(self.measured),
            "interval": [_finite(end) for end in self.interval],
            "n": int(self.n),
            "target": asdict(self.target),
            "verdict": self.verdict,
            "expected": self.expected,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Claim":
        """The claim that :meth:`to_json` wrote; the verdict is derived again."""
        known = {name: value for name, value in fields.items() if name != "verdict"}
        known["interval"] = [_number(end) for end in known["interval"]]
        known["measured"] = _number(known["measured"])
        return decode(cls, known)


def dumps(claims: Iterable[Claim]) -> str:
    """The text of ``claims.json``."""
    return json.dumps([claim.to_json() for claim in claims], indent=2, ensure_ascii=False) + "\n"


def loads(text: str) -> list[Claim]:
    """The claims in the text of a ``claims.json``.

    Raises:
        ValueError, KeyError, TypeError: it is no such text.
    """
    found = json.loads(text)
    if not (isinstance(found, list) and all(isinstance(fields, dict) for fields in found)):
        raise ValueError("not a list of claims")
    return [Claim.from_json(fields) for fields in found]


class Estimate(NamedTuple):
    """A measured value and the ends of its interval."""

    measured: float
    interval: Interval


def share(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A share with its Clopper-Pearson interval (Clopper and Pearson, Biometrika 26, 1934).

    The ends are quantiles of Beta(k, n-k+1) and Beta(k+1, n-k). Without any trial the share is NaN
    and the interval everything.

    Example:
        >>> share(16, 16).interval[0].__round__(3)
        0.794
    """
    from scipy.special import betaincinv

    successes, n = int(successes), int(n)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in [0, n = {n}], got {successes}")
    tail = (1 - level) / 2
    low = betaincinv(successes, n - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
    return Estimate(successes / n if n else math.nan, (float(low), float(high)))


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[np.ndarray], Any] = np.median,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """A statistic over runs with its percentile-bootstrap interval.

    Args:
        values: one row per independent run (seed); rows are drawn with replacement.
        statistic: ``statistic(values) -> number``.
        seed: of the resampling.
        resamples: how many.
        level: of confidence.

    Example:
        >>> measured, (low, high) = bootstrap([1.0, 2.0, 3.0, 4.0, 5.0])
        >>> measured, low <= measured <= high
        (3.0, True)
    """
    rows = np.asarray(values)
    if len(rows) == 0:
        return Estimate(math.nan, (math.nan, math.nan))
    draws = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    statistics = [float(statistic(rows[draw])) for draw in draws]
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(statistic(rows)), (float(low), float(high)))


def exact(value: float) -> Estimate:
    """A number without sampling error, such as an extreme over a fixed set of instances."""
    return Estimate(float(value), (float(value), float(value)))


def share_claim(
    id: str,
    statement: str,
    source: str,
    met: ArrayLike,
    target: Target,
    expected: Verdict = "holds",
) -> Claim:
    """A claim about the share of instances that meet a condition, with the interval of `share`.

    Args:
        id: of the claim.
        statement: of the claim; it says what is counted.
        source: of the claim.
        met: one entry per independent instance. Runs that share an instance stand or fall together:
            ``met.reshape(instances, -1).all(1)``.
        target: for the share.
        expected: the verdict that is known.

    Raises:
        ValueError: ``met`` has more than one axis.

    Example:
        >>> always = share_claim("toys/so", "It is so.", "TOY", [True] * 80, Target(">=", 0.95))
        >>> always.measured, always.n, always.verdict
        (1.0, 80, 'holds')
    """
    met = np.asarray(met, bool)
    if met.ndim != 1:
        raise ValueError(f"met must have one entry per instance, got the shape {met.shape}")
    estimate = share(int(met.sum()), met.size)
    return Claim(id, statement, source, *estimate, met.size, target, expected)


def bootstrap_claim(
    id: str,
    statement: str,
    source: str,
    values: ArrayLike,
    target: Target,
    statistic: Callable[[np.ndarray], Any] = np.median,
    expected: Verdict = "holds",
) -> Claim:
    """A claim about a statistic over instances, with the interval of `bootstrap`.

    Args:
        id: of the claim.
        statement: of the claim; it says what is counted.
        source: of the claim.
        values: one row per independent instance; runs that share an instance share its row.
        target: for the statistic.
        statistic: ``statistic(values) -> number``.
        expected: the verdict that is known.

    Example:
        >>> slopes = [0.9, 1.0, 1.0, 1.1]
        >>> near_one = Target("in", (0.8, 1.2))
        >>> linear = bootstrap_claim("toys/linear", "It is linear.", "TOY", slopes, near_one)
        >>> linear.measured, linear.n, linear.verdict
        (1.0, 4, 'holds')
    """
    values = np.asarray(values)
    estimate = bootstrap(values, statistic)
    return Claim(id, statement, source, *estimate, len(values), target, expected)


def exact_claim(
    id: str,
    statement: str,
    source: str,
    value: float,
    n: int,
    target: Target,
    expected: Verdict = "holds",
) -> Claim:
    """A claim about one number without sampling error, with the interval of `exact`.

    Args:
        id: of the claim.
        statement: of the claim; it says what is counted.
        source: of the claim.
        value: the number.
        n: of what it was found from.
        target: for the number.
        expected: the verdict that is known.

    Example:
        >>> exact_claim("toys/zero", "It is 0.", "TOY §1", 0.0, 12, Target("<=", 0.0)).verdict
        'holds'
    """
    return Claim(id, statement, source, *exact(value), n, target, expected)


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
