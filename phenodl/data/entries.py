"""Observed entries of a user's own matrix: a list of them, or a matrix with gaps, checked.

:mod:`phenodl.data.entry_files` reads them from files.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import ArrayLike

_GAPS = ("", "nan", "NaN", "NAN", "na", "NA")
_LARGEST = 1e150
"""Values below have squares, and sums of many squares, in double precision."""
_LONGEST = 2**26
"""Rows or columns that a shape may ask for; each has a name in memory."""


class Entries(NamedTuple):
    """Observed entries of a matrix, each once.

    Attributes:
        row: index of each entry's row.
        column: index of its column.
        value: finite.
        row_ids: the name of each row, whole numbers or text.
        column_ids: the name of each column.
        layout: as what the entries were given.
        merged: repetitions of entries that were left out.
    """

    row: Int[np.ndarray, " entries"]
    column: Int[np.ndarray, " entries"]
    value: Float[np.ndarray, " entries"]
    row_ids: Shaped[np.ndarray, " rows"]
    column_ids: Shaped[np.ndarray, " columns"]
    layout: Literal["entries", "matrix"]
    merged: int

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return len(self.row_ids), len(self.column_ids)


class EntriesError(ValueError):
    """Entries that cannot be used; one line that says where and why."""


class Misplaced(EntriesError):
    """Something wrong in one cell of a table, counted from 0.

    Attributes:
        row: of the cell.
        column: of the cell; in a list 0 is the row's name, 1 the column's, 2 the value.
        message: what is wrong.
    """

    def __init__(self, row: int | np.integer, column: int | np.integer, message: str):
        self.row, self.column, self.message = int(row), int(column), message
        super().__init__(f"row {self.row + 1}, column {self.column + 1}: {message}")


def from_list(
    rows: Shaped[ArrayLike, " entries"],
    columns: Shaped[ArrayLike, " entries"],
    values: Shaped[ArrayLike, " entries"],
    shape: tuple[int, int] | None = None,
) -> Entries:
    """Entries from a list; equal duplicates are merged.

    Args:
        rows: the name of each entry's row: whole numbers of at least 0, or text.
        columns: the name of its column.
        values: finite numbers, below 1e150 in size.
        shape: of the matrix, whose rows and columns are then named by their indices; without it
            the matrix has those rows and columns that the list names, in their order.

    Raises:
        EntriesError: there is no entry, or a side of the shape is not in [1, 2**26].
        Misplaced: a value is missing or too large, a name is missing, negative or beyond the shape,
            or an entry is given twice with different values.

    Example:
        >>> entries = from_list(["b", "a", "a"], [40, 40, 10], [1.0, 2.0, 3.0])
        >>> entries.shape, entries.row.tolist(), entries.column.tolist()
        ((2, 2), [1, 0, 0], [1, 1, 0])
    """
    values = np.asarray(values, float)
    if not len(values):
        raise EntriesError("no entry is observed")
    missing = np.flatnonzero(np.isnan(values))
    if missing.size:
        raise Misplaced(missing[0], 2, "a value is missing or NaN")
    _require_moderate(values[:, None], 2)
    if shape is not None and not all(1 <= side <= _LONGEST for side in shape):
        raise EntriesError(f"shape must be two numbers in [1, {_LONGEST}], got {shape}")
    sizes = (None, None) if shape is None else shape
    row, row_ids = _numbered(np.asarray(rows), 0, sizes[0])
    column, column_ids = _numbered(np.asarray(columns), 1, sizes[1])
    return _without_repetitions(Entries(row, column, values, row_ids, column_ids, "entries", 0))


def from_matrix(
    matrix: Float[ArrayLike, "rows columns"],
    row_ids: Shaped[ArrayLike, " rows"] | None = None,
    column_ids: Shaped[ArrayLike, " columns"] | None = None,
) -> Entries:
    """Entries from a matrix that has NaN where nothing is known.

    Args:
        matrix: at least one entry is not NaN, and all others are below 1e150 in size.
        row_ids: names of the rows; their indices by default.
        column_ids: names of the columns; their indices by default.

    Raises:
        EntriesError: there is no entry.
        Misplaced: an entry is infinite or too large.

    Example:
        >>> from_matrix([[1.0, np.nan], [np.nan, 2.0]]).column.tolist()
        [0, 1]
    """
    matrix = np.asarray(matrix, float)
    _require_moderate(matrix)
    row, column = np.nonzero(~np.isnan(matrix))
    if not len(row):
        raise EntriesError("no entry is observed")
    rows = np.arange(matrix.shape[0]) if row_ids is None else np.asarray(row_ids)
    columns = np.arange(matrix.shape[1]) if column_ids is None else np.asarray(column_ids)
    return Entries(row, column, matrix[row, column], rows, columns, "matrix", 0)


def gaps(cells: Shaped[np.ndarray, "*cells"]) -> Bool[np.ndarray, "*cells"]:
    """Which cells hold nothing: NaN, or in text an empty cell, NaN or NA.

    Example:
        >>> gaps(np.array(["1", "", "NaN"])).tolist()
        [False, True, True]
    """
    if cells.dtype.kind != "U":
        return np.isnan(cells)
    return np.logical_or.reduce([cells == word for word in _GAPS])


def _require_moderate(cells: Float[np.ndarray, "lines columns"], first: int = 0) -> None:
    """Refuses infinite values and huge ones; columns are counted from ``first``."""
    large = np.argwhere(np.abs(cells) >= _LARGEST)
    if large.size:
        row, column = large[0]
        finite = np.isfinite(cells[row, column])
        limit = f"below {_LARGEST:g} in size" if finite else "finite"
        raise Misplaced(row, column + first, f"a value must be {limit}, got {cells[row, column]:g}")


def _numbered(
    names: Shaped[np.ndarray, " entries"], place: int, size: int | None
) -> tuple[Int[np.ndarray, " entries"], Shaped[np.ndarray, " names"]]:
    """Indices in place of names, and the names in the order of the indices."""
    if names.dtype.kind in "iu":
        wrong = (names < 0) if size is None else (names < 0) | (names >= size)
        requirement = "at least 0" if size is None else f"in [0, {size})"
    else:
        wrong, requirement = gaps(names), "named"
    if wrong.any():
        first, kind = np.flatnonzero(wrong)[0], ("row", "column")[place]
        raise Misplaced(
            first, place, f"a {kind} must be {requirement}, got {names[first].item()!r}"
        )
    if size is not None:
        return names, np.arange(size)
    known, index = np.unique(names, return_inverse=True)
    return index, known


def _without_repetitions(entries: Entries) -> Entries:
    code = entries.row.astype(np.int64) * entries.shape[1] + entries.column
    order = np.argsort(code, kind="stable")
    repeated = np.flatnonzero(np.diff(code[order]) == 0)
    before, again = order[repeated], order[repeated + 1]
    differing = np.flatnonzero(entries.value[before] != entries.value[again])
    if differing.size:
        _refuse_pair(entries, int(before[differing[0]]), int(again[differing[0]]))
    kept = np.ones(len(code), bool)
    kept[again] = False
    row, column, value = (part[kept] for part in entries[:3])
    return entries._replace(row=row, column=column, value=value, merged=len(again))


def _refuse_pair(entries: Entries, first: int, second: int) -> None:
    place = f"row {entries.row_ids[entries.row[first]]}"
    place += f", column {entries.column_ids[entries.column[first]]}"
    values = f"{entries.value[first]:g} and {entries.value[second]:g}"
    raise Misplaced(second, 2, f"{place} is given twice, with the values {values}")
