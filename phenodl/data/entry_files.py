"""Reads the observed entries of a user's own matrix from CSV, TSV, MovieLens' files and NPZ.

NumPy parses; a million lines take about a second.
"""

import csv
import itertools
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from phenodl.data.entries import Entries, EntriesError, Misplaced, from_list, from_matrix, gaps

FileLayout = Literal["auto", "entries", "matrix"]
"""How a text file is to be understood: a list of entries, a matrix, or whichever it looks like."""

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".data": "\t", ".dat": "::"}
_LISTS = (".data", ".dat")  # MovieLens' u.data and ratings.dat: never a matrix
_NAMES = (
    ("row", "rows", "user"),
    ("column", "columns", "col", "item", "movie"),
    ("value", "values", "rating", "data"),
)
_EXACT = 2.0**53
"""Whole numbers below are exact in double precision; names beyond are read as text."""


def read_entries(path: str | Path, layout: FileLayout = "auto") -> Entries:
    r"""Reads observed entries from a file.

    - ``.csv``, ``.tsv``: a list, with a header that names row, column, value (or user, item or
      movie, rating; further columns are ignored), or without one and with three columns or four
      (MovieLens' timestamp); or a matrix, with or without a header line. A header that starts
      with an empty cell, or with user, item, movie, row or column, says that the first column names
      the rows.
    - ``.data``, ``.dat``: ratings as MovieLens lays them out, between tabs or ``::``.
    - ``.npz``: arrays ``row``, ``column`` (or ``col``), ``value`` (or ``data``) of one length, and
      perhaps ``shape``, which makes rows and columns indices; or one array, a matrix with NaN.

    Args:
        path: of the file; text is UTF-8.
        layout: of a ``.csv`` or ``.tsv``. By default, without a header, a table of three or four
            columns is a list if the first two are full and hold whole numbers or text.

    Raises:
        EntriesError: the file is missing or of another kind; nothing is observed; a value is not a
            finite number below 1e150 in size; an entry is given twice with different values; an
            index is negative or out of range; lines have different numbers of columns; a quote is
            not closed on its line. The message is one line that starts with the path and names line
            and column.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "ratings.csv"
        ...     _ = path.write_text("userId,movieId,rating\n7,31,2.5\n7,10,4\n3,31,5\n")
        ...     entries = read_entries(path)
        >>> entries.shape, entries.row.tolist(), entries.column_ids.tolist()
        ((2, 2), [1, 1, 0], [10, 31])
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            return _read_npz(path)
        if suffix not in _DELIMITERS:
            known = ", ".join([*_DELIMITERS, ".npz"])
            raise EntriesError(f"the name must end in one of {known}")
        return _read_text(path, _DELIMITERS[suffix], "entries" if suffix in _LISTS else layout)
    except OSError as error:
        raise EntriesError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise EntriesError(f"{path}: is not text in UTF-8 (byte {error.start + 1})") from error
    except EntriesError as error:
        raise EntriesError(f"{path}: {error}") from error


def _read_npz(path: Path) -> Entries:
    try:
        # NumPy leaves a file that it has opened itself open where the archive is broken.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise EntriesError("is no NPZ archive of plain arrays") from error
    parts = [next((arrays[name] for name in names if name in arrays), None) for names in _NAMES]
    row, column, value = parts
    if row is not None and column is not None and value is not None:
        return _from_arrays(row, column, value, arrays.get("shape"))
    matrices = list(arrays.values())
    if len(matrices) == 1 and matrices[0].ndim == 2 and matrices[0].dtype.kind in "iuf":
        return from_matrix(matrices[0])
    found = ", ".join(f"{name} {value.shape}" for name, value in arrays.items()) or "nothing"
    raise EntriesError(f"needs the arrays row, column and value, or one matrix; holds {found}")


def _from_arrays(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: np.ndarray | None
) -> Entries:
    if not (row.ndim == 1 and row.shape == column.shape == value.shape):
        shapes = f"{row.shape}, {column.shape} and {value.shape}"
        raise EntriesError(f"row, column and value must be lists of one length, got {shapes}")
    named = {row.dtype.kind, column.dtype.kind}
    if not (named <= {*"iuU"} and value.dtype.kind in "iuf"):
        raise EntriesError("row and column must hold whole numbers or text, value numbers")
    size = None
    if shape is not None:
        if not (shape.shape == (2,) and {shape.dtype.kind, *named} <= {*"iu"}):
            raise EntriesError("shape must be two whole numbers, and row and column indices")
        size = int(shape[0]), int(shape[1])
    try:
        return from_list(row, column, value, size)
    except Misplaced as error:
        name = ("row", "column", "value")[error.column]
        raise EntriesError(f"{name}[{error.row}]: {error.message}") from error


def _read_text(path: Path, delimiter: str, layout: FileLayout) -> Entries:
    text = path.read_text(encoding="utf-8-sig")
    if delimiter == "::":
        text, delimiter = text.replace("::", "\t"), "\t"
    lines = text.split("\n")
    _require_closed_quotes(lines, delimiter)
    table = _Table([line for line in lines if line.strip()], delimiter)
    if not table.lines:
        raise EntriesError("is empty")
    try:
        return table.entries(layout)
    except Misplaced as error:
        written = (number for number, line in enumerate(lines, 1) if line.strip())
        number = next(itertools.islice(written, error.row, None))
        place = f"line {number}, column {error.column + 1}"
        raise EntriesError(f"{place}: {error.message}") from error


def _require_closed_quotes(lines: Sequence[str], delimiter: str) -> None:
    """An open quote would swallow the lines that follow it."""
    for number, line in enumerate(lines, 1):
        if '"' not in line:
            continue
        try:
            next(csv.reader([line], delimiter=delimiter, strict=True))
            closed = line.count('"') % 2 == 0
        except csv.Error:
            closed = False
        if not closed:
            message = 'a quote is not closed; write a quote inside a cell as "a ""b"" c"'
            raise EntriesError(f"line {number}: {message}")


class _Table(NamedTuple):
    """The lines of a text file that are not blank, and what separates their cells."""

    lines: list[str]
    delimiter: str

    def entries(self, layout: FileLayout) -> Entries:
        """The entries of the table, understood as the layout says."""
        head = self._split(self.lines[0])
        self._require_delimiter(head)
        places = None if layout == "matrix" else _named_columns(head)
        wordy = not any(map(_is_number, head))
        rows_named = layout != "entries" and places is None and self._names_rows(head)
        titled = places is not None or rows_named or wordy
        if layout == "auto" and wordy and places is None and len(head) in (3, 4) and head[0]:
            advice = "name them row, column, value, or pass --layout matrix or --layout entries"
            raise Misplaced(0, 0, f"unknown names of columns; {advice}")
        if layout == "entries" and len(head) < 3:
            raise Misplaced(0, len(head), "a list needs row, column and value")

        cells = self._load(int(titled))
        if layout == "auto" and places is None and not rows_named and _looks_like_list(head, cells):
            places = 0, 1, 2
        if places is not None or layout == "entries":
            return self._from_list(cells, int(titled), places or (0, 1, 2))
        return _from_table(cells, head if titled else None, rows_named)

    def _require_delimiter(self, head: Sequence[str]) -> None:
        """A single column that holds other separators is a table that was not split."""
        line = self.lines[-1].strip()
        other = next((each for each in ";,\t| " if each in line and each != self.delimiter), None)
        if len(head) == 1 and other is not None:
            raise Misplaced(0, 0, f"one column; separated by {other!r}, not {self.delimiter!r}?")

    def _names_rows(self, head: Sequence[str]) -> bool:
        """Whether the first line is a header which says that the first column names the rows."""
        if head[0]:
            return _plain(head[0]) in (*_NAMES[0], *_NAMES[1])
        if not any(map(_is_number, head)):
            return True
        # Whole numbers beside an empty cell: names of columns, or a first row with a gap.
        first = [self._split(line)[0] for line in self.lines[1:]]
        return _are_names(head[1:]) and _are_names(first)

    def _from_list(self, cells: np.ndarray, header: int, places: Sequence[int]) -> Entries:
        """One entry a line, its row, column and value in these places."""
        names = cells[:, places[:2]]
        if cells.dtype.kind == "f" and not (_whole(names) & (np.abs(names) < _EXACT)).all():
            cells = self._load(header, text=True)
        row, column, value = (cells[:, [place]] for place in places)
        try:
            return from_list(_names(row[:, 0]), _names(column[:, 0]), _numbers(value, 2)[:, 0])
        except Misplaced as error:
            place = places[error.column]
            raise Misplaced(error.row + header, place, error.message) from error

    def _load(self, header: int, text: bool = False) -> Shaped[np.ndarray, "lines columns"]:
        """The cells below the header, as numbers if all of them are.

        Raises:
            EntriesError: there are none.
            Misplaced: a line has more or fewer columns than the first, which may be the header.
        """
        lines = self.lines[header:]
        if not lines:
            raise EntriesError("no entry is observed")
        how: Any = {"comments": None, "delimiter": self.delimiter, "quotechar": '"', "ndmin": 2}
        try:
            cells = np.loadtxt(lines, str if text else float, **how)
        except ValueError:
            if not text:
                return self._load(header, text=True)
            self._require_equal_lengths()
            raise
        if cells.shape[1] != len(self._split(self.lines[0])):
            self._require_equal_lengths()
        return np.char.strip(cells) if text else cells

    def _require_equal_lengths(self) -> None:
        expected = len(self._split(self.lines[0]))
        for number, line in enumerate(self.lines):
            if (count := len(self._split(line))) != expected:
                message = f"{count} columns, but {expected} in the first line"
                raise Misplaced(number, min(count, expected), message)

    def _split(self, line: str) -> list[str]:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=self.delimiter))]


def _from_table(cells: np.ndarray, head: list[str] | None, rows_named: bool) -> Entries:
    """A matrix, a row a line; perhaps below a header, perhaps with the names of the rows."""
    header, named = int(head is not None), int(rows_named)
    try:
        rows = _names(cells[:, 0]) if named else None
        return from_matrix(_numbers(cells[:, named:]), rows, head[named:] if head else None)
    except Misplaced as error:
        raise Misplaced(error.row + header, error.column + named, error.message) from error


def _looks_like_list(head: Sequence[str], cells: Shaped[np.ndarray, "lines columns"]) -> bool:
    """Whether a table without a telling header is a list: its first two columns hold names.

    Raises:
        Misplaced: they do, but further columns have gaps, as a matrix has.
    """
    missing = gaps(cells)
    decimal = any("." in cell and _is_number(cell) for cell in head[:2])
    if len(head) not in (3, 4) or not head[0] or decimal or missing[:, :2].any():
        return False
    if cells.dtype.kind == "f" and not _whole(cells[:, :2]).all():
        return False
    if missing.any():
        row, column = np.argwhere(missing)[0]
        advice = "pass --layout matrix for a matrix with gaps, --layout entries for a list"
        raise Misplaced(row, column, f"an empty cell; {advice}")
    return True


def _named_columns(head: Sequence[str]) -> tuple[int, ...] | None:
    """The places of row, column and value in a header that names them, or None.

    Raises:
        Misplaced: row and column are named, but no value.
    """
    plain = [_plain(name) for name in head]
    places = [next((plain.index(each) for each in names if each in plain), -1) for names in _NAMES]
    if min(places[:2]) < 0:
        return None
    if places[2] < 0:
        raise Misplaced(0, len(head) - 1, "no column is named value or rating")
    return tuple(places)


def _plain(name: str) -> str:
    """A column's name as it is compared with the known ones: User_ID is user."""
    return re.sub(r"[\s_]|id$", "", name.lower())


def _are_names(cells: Sequence[str]) -> bool:
    """Whether cells can name rows or columns: full, all different, no decimal numbers."""
    decimal = any("." in cell and _is_number(cell) for cell in cells)
    return not decimal and len(set(cells)) == len(cells) and not gaps(np.array(cells, str)).any()


def _whole(cells: Float[np.ndarray, "*cells"]) -> Bool[np.ndarray, "*cells"]:
    return np.isfinite(cells) & (cells == np.rint(cells))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _names(cells: Shaped[np.ndarray, " lines"]) -> Shaped[np.ndarray, " lines"]:
    """Names as whole numbers where all are, else as text."""
    try:
        return cells.astype(np.int64)
    except (ValueError, OverflowError):
        return cells


def _numbers(
    cells: Shaped[np.ndarray, "lines columns"], first: int = 0
) -> Float[np.ndarray, "lines columns"]:
    """Cells as numbers, NaN where there is a gap.

    Raises:
        Misplaced: a cell is neither; columns are counted from ``first``.
    """
    if cells.dtype.kind != "U":
        return cells
    cells = np.where(gaps(cells), "nan", cells)
    try:
        return cells.astype(float)
    except ValueError:
        row, column = next(at for at, cell in np.ndenumerate(cells) if not _is_number(cell))
        message = f"a value must be a number, got {str(cells[row, column])!r}"
        raise Misplaced(row, column + first, message) from None
