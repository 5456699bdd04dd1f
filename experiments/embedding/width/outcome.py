"""What embeddings do to output, gradient and inertia, and what a split does along alpha."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.embedding.width import embeddings as kinds
from experiments.embedding.width.families import Family
from experiments.embedding.width.measure import Signs, measure, signs


class Survey(NamedTuple):
    """All embeddings, one row each.

    Attributes:
        kind: split, null, compatible, composed or control.
        depth: number of hidden layers.
        point: the narrow critical point, numbered through all families.
        output: largest change of the output.
        grad_norm: of the wide network.
        narrow: inertia before. wide: after.
        determined: whether both are clear of rounding.
        zeros: predicted number of new zero eigenvalues, -1 if none is.
        across: predicted inertia across a split; -1 for the other kinds.
    """

    kind: np.ndarray
    depth: Int[np.ndarray, " rows"]
    point: Int[np.ndarray, " rows"]
    output: Float[np.ndarray, " rows"]
    grad_norm: Float[np.ndarray, " rows"]
    narrow: Signs
    wide: Signs
    determined: Bool[np.ndarray, " rows"]
    zeros: Int[np.ndarray, " rows"]
    across: Signs

    def take(self, where: np.ndarray) -> "Survey":
        """Some of the rows."""
        return Survey(*(column[where] for column in self))


class Narrow(NamedTuple):
    """The critical points before any embedding, numbered through all families.

    Attributes:
        family: by number.
        loss, grad_norm: there.
        signs: inertia.
        determined: whether it is clear of rounding.
    """

    family: Int[np.ndarray, " points"]
    loss: Float[np.ndarray, " points"]
    grad_norm: Float[np.ndarray, " points"]
    signs: Signs
    determined: Bool[np.ndarray, " points"]

    @property
    def regular(self) -> Bool[np.ndarray, " points"]:
        """Whether no eigenvalue is zero, beyond doubt."""
        return self.determined & (self.signs[:, 1] == 0)

    @property
    def minimum(self) -> Bool[np.ndarray, " points"]:
        """Whether all eigenvalues are positive, beyond doubt."""
        return self.regular & (self.signs[:, 0] == 0)


class Curves(NamedTuple):
    """Splits of all units of minima with one hidden layer, along alpha.

    Attributes:
        alpha: the grid.
        family: name of the data, and unit: that is split, of each row.
        point: numbered within the families of the curves.
        lowest: least eigenvalue but for the flat direction along alpha.
        negative: how many eigenvalues are.
        predicted: how many are across the split, by its Hessian.
    """

    alpha: Float[np.ndarray, " alphas"]
    family: np.ndarray
    point: Int[np.ndarray, " rows"]
    unit: Int[np.ndarray, " rows"]
    lowest: Float[np.ndarray, "rows alphas"]
    negative: Int[np.ndarray, "rows alphas"]
    predicted: Int[np.ndarray, "rows alphas"]

    @property
    def clear(self) -> Bool[np.ndarray, " alphas"]:
        """Where alpha is neither 0 nor 1, up to rounding."""
        return np.abs(self.alpha * (1 - self.alpha)) > 1e-9


def survey(family_list: Sequence[Family], draws: int, seed: int) -> tuple[Narrow, Survey]:
    """Embeds every point of every family, and measures it before and after."""
    narrow, rows, first = [], [], 0
    for number, family in enumerate(family_list):
        params, used = kinds.idle(family.params, family.wide)
        before = measure(params, used, family.inputs, family.targets)
        narrow_signs, determined = _inertia(before.hessian, used)
        index = np.full(len(family), number)
        narrow.append(Narrow(index, before.loss, before.grad_norm, narrow_signs, determined))
        random = np.random.default_rng([seed, number])
        for (kind, _), drawn in kinds.embeddings(family, draws, random).items():
            at = drawn.point
            after = measure(drawn.params, drawn.used, family.inputs, family.targets[at])
            wide, clear = _inertia(after.hessian, drawn.used)
            rows.append(
                Survey(
                    kind=np.full(len(at), kind),
                    depth=np.full(len(at), len(family.hidden)),
                    point=first + at,
                    output=np.abs(after.output - before.output[at]).max(axis=(1, 2)),
                    grad_norm=after.grad_norm,
                    narrow=narrow_signs[at],
                    wide=wide,
                    determined=determined[at] & clear,
                    zeros=drawn.zeros,
                    across=_across(drawn.transverse, len(at)),
                )
            )
        first += len(family)
    return _stacked(Narrow, narrow), _stacked(Survey, rows)


def curves(family_list: Sequence[Family], narrow: Narrow, alphas: int) -> Curves:
    """Splits every unit of every minimum of the families with one hidden layer."""
    alpha = np.linspace(-1, 2, alphas)
    found = []
    for number, family in enumerate(family_list):
        here = np.flatnonzero(narrow.family == number)
        minima = np.flatnonzero(narrow.minimum[here])
        if len(family.hidden) > 1 or minima.size == 0:
            continue
        axes = np.meshgrid(minima, range(*family.hidden), alpha, indexing="ij")
        point, unit, at = (axis.ravel() for axis in axes)
        params, used, across = kinds.splits(family, point, unit, at)
        hessian = measure(params, used, family.inputs, family.targets[point]).hessian
        shape = (-1, alphas)
        found.append(
            Curves(
                alpha=alpha,
                family=np.full(len(point) // alphas, family.name),
                point=here[point].reshape(shape)[:, 0],
                unit=unit.reshape(shape)[:, 0],
                lowest=_lowest_but_flat(hessian, used).reshape(shape),
                negative=_inertia(hessian, used)[0][:, 0].reshape(shape),
                predicted=_across(across, len(point))[:, 0].reshape(shape),
            )
        )
    return _stacked(Curves, found)._replace(alpha=alpha)


def raised_by_equal_splits(
    family: Family, minimum: Bool[np.ndarray, " points"]
) -> Int[np.ndarray, "minima splits"]:
    """Negative eigenvalues of minima after equal splits of none, one, two ... of their units."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[minimum], family.params)
    raised = []
    for number in range(family.hidden[0] + 1):
        wide, used = kinds.equal_splits(params, number, family.wide)
        used = np.asarray(used)
        hessian = measure(wide, used, family.inputs, family.targets[minimum]).hessian
        raised.append(_inertia(hessian, used)[0][:, 0])
    return np.stack(raised, axis=1)


def of_each_point(
    values: np.ndarray, point: Int[np.ndarray, " rows"]
) -> Bool[np.ndarray, " points"]:
    """Whether something holds for all rows of a critical point."""
    return np.array([values[point == one].all() for one in np.unique(point)], bool)


def _inertia(
    hessian: Float[np.ndarray, "rows parameters parameters"],
    used: Bool[np.ndarray, "rows parameters"],
) -> tuple[Signs, Bool[np.ndarray, " rows"]]:
    """On the parameters in use: every other one is a zero eigenvalue too many."""
    return signs(np.linalg.eigvalsh(hessian), (~used).sum(axis=1))


def _across(transverse: np.ndarray | None, rows: int) -> Signs:
    """Inertia across splits."""
    if transverse is None:
        return np.full((rows, 3), -1)
    return signs(np.linalg.eigvalsh(transverse))[0]


def _lowest_but_flat(
    hessian: Float[np.ndarray, "rows parameters parameters"],
    used: Bool[np.ndarray, "rows parameters"],
) -> Float[np.ndarray, " rows"]:
    """The least eigenvalue, but for those of idle parameters and the one that is always zero."""
    values = np.linalg.eigvalsh(hessian)
    rank = np.abs(values).argsort(axis=1).argsort(axis=1)
    flat = rank <= (~used).sum(axis=1, keepdims=True)
    return np.where(flat, np.inf, values).min(axis=1)


def _stacked(kind, parts):
    return kind(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
