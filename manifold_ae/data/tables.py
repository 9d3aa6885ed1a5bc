"""`.csv` files: a header of column names, then a row a measurement, of numbers with commas between.

Columns that nothing else claims are the values, in the order of the header. Of covariates, a column
of words (a batch, a condition) becomes a column of zeros and ones for each of its categories.
Whatever is wrong is named by its line, counted from 1 as editors do, and its column.
"""

import csv
import math
from array import array
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import did_you_mean
from .arrays import require_file
from .columns import PARTS, Columns

#: What stands for a value that is missing, in lower case.
BLANKS = ("", "na", "n/a", "nan", "null")
#: More different words than this in a column are no categories.
MAX_CATEGORIES = 1000


def read_table(
    path: Path, columns: Columns, optional: Container[str] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray], Columns]:
    """Return the values of a `.csv` file, what is beside them, and how it was read.

    Arguments:
        path: The file.
        columns: Which columns are what. With `features`, they were found out from another file:
            then its features and categories hold, and other columns are left aside.
        optional: Parts of which it is no mistake if the file has them not.

    Returns:
        Values `(n, features)`, float64, arrays by the names in `columns.PARTS`, and the columns
        with their features and categories.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no table as described, a column is not there, a row is longer or
            shorter than the header, something is no number, or is missing where nothing may be.
    """
    require_file(path, ".csv")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read(csv.reader(file, strict=True), path.name, columns, optional)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error}): expected a .csv file; save it again as text"
        ) from error


def _read(
    reader: Any, name: str, columns: Columns, optional: Container[str]
) -> tuple[np.ndarray, dict[str, np.ndarray], Columns]:
    rows = _rows(reader, name)
    header = _header(next(rows, (0, []))[1], name)
    known = bool(columns.features)
    columns = _roles(header, columns, optional, name)
    place = {column: k for k, column in enumerate(header)}
    beside = {column: place[column] for names in columns.named().values() for column in names}
    values, lines = array("d"), array("q")
    words: dict[str, list[str]] = {column: [] for column in beside}
    features = [place[column] for column in columns.features]
    numbers = _Numbers(name, columns.features, columns.missing)
    pick = itemgetter(*features) if len(features) > 1 else lambda row: (row[features[0]],)
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{name} has {len(row)} fields in line {line}: expected {len(header)}, as the "
                "header has"
            )
        values.extend(numbers(pick(row), line))
        lines.append(line)
        for column, k in beside.items():
            words[column].append(row[k].strip())
    if not lines:
        raise ValueError(f"{name} has a header and no row: expected at least one")
    x = np.frombuffer(values, np.float64).reshape(len(lines), len(features))
    if columns.missing == "refuse":
        numbers.require_all(x, lines)
    texts = {column: _Text(name, column, cells, lines) for column, cells in words.items()}
    parts, categories = _parts(texts, columns, known)
    return x, parts, replace(columns, categories=categories)


def _rows(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers; empty ones may only be the last."""
    empty = 0
    try:
        for row in reader:
            if not row:
                empty = empty or reader.line_num
                continue
            if empty:
                raise ValueError(f"{name} has nothing in line {empty}, and rows after it")
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{name} cannot be read at line {reader.line_num}: {error}") from error


def _header(header: Sequence[str], name: str) -> list[str]:
    columns = [column.strip() for column in header]
    if not columns:
        raise ValueError(f"{name} is empty: expected a line of column names, and rows")
    for k, column in enumerate(columns):
        if not column:
            raise ValueError(
                f"{name} has no name for column {k + 1}: expected one for each; an index that "
                "pandas wrote is left out by to_csv(index=False)"
            )
        if column in columns[:k]:
            raise ValueError(f"{name} has two columns {column!r}: expected names that differ")
    if all(_is_number(column) for column in columns):
        raise ValueError(
            f"{name} starts with numbers ({', '.join(columns[:3])}, ...): expected a first line of "
            "column names"
        )
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise ValueError(f"{name} has one column {columns[0]!r}: expected commas between columns")
    return columns


def _roles(header: Sequence[str], columns: Columns, optional: Container[str], name: str) -> Columns:
    """The columns as they are in this file, with every feature named."""
    found = dict(columns.named())
    absent = {part: [c for c in names if c not in header] for part, names in found.items()}
    found |= {part: () for part, lost in absent.items() if lost and part in optional}
    needed = [(part, column) for part in found if found[part] for column in absent[part]]
    if needed:
        wanted = " and ".join(f"no column {column!r} for {part}" for part, column in needed)
        raise ValueError(
            f"{name} has {wanted}: it has {_some(header)}{did_you_mean(needed[0][1], header)}"
        )
    taken = {column for names in found.values() for column in names}
    features = columns.features or tuple(column for column in header if column not in taken)
    lost = [column for column in features if column not in header]
    if lost:
        what = "a feature" if len(lost) == 1 else f"{len(lost)} features"
        raise ValueError(
            f"{name} has no column {_some([repr(column) for column in lost])}, {what} of the file "
            f"that was trained on: it has {_some(header)}{did_you_mean(lost[0], header)}"
        )
    if not features:
        raise ValueError(f"{name} has no column of values: all are {', '.join(found)}")
    return replace(columns, **found, features=features)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python's own spelling of 1000 as 1_000 is no number in a table.
    return "_" not in text


@dataclass(frozen=True)
class _Numbers:
    """Reads the values of a row."""

    name: str
    columns: tuple[str, ...]
    missing: str

    def __call__(self, cells: Sequence[str], line: int) -> list[float]:
        try:
            if any("_" in cell for cell in cells):
                raise ValueError
            return [float(cell) for cell in cells]
        except ValueError:
            return [self._one(cell, k, line) for k, cell in enumerate(cells)]

    def _one(self, cell: str, k: int, line: int) -> float:
        if cell.strip().lower() in BLANKS:
            return math.nan
        if not _is_number(cell):
            raise ValueError(
                f"{self.name} has {cell!r} in line {line}, column {self.columns[k]!r}: expected a "
                "number; name columns that are no values by --covariates, --groups or --labels"
            )
        return float(cell)

    def require_all(self, x: np.ndarray, lines: Sequence[int]) -> None:
        """Raise if a value is missing."""
        absent = np.isnan(x)
        if absent.any():
            row, k = (int(i) for i in np.unravel_index(absent.argmax(), absent.shape))
            raise ValueError(
                f"{self.name} has no value in line {lines[row]}, column {self.columns[k]!r}, and "
                f"{int(absent.sum())} of its values are missing: fill them in, or take "
                "missing='mask' (--missing mask), with which a model does without them"
            )


@dataclass(frozen=True)
class _Text:
    """A column that is no feature, as it stands in the file."""

    name: str
    column: str
    cells: list[str]
    lines: Sequence[int]

    def fail(self, k: int, wanted: str) -> ValueError:
        return ValueError(
            f"{self.name} has {self.cells[k]!r} in line {self.lines[k]}, column {self.column!r}: "
            f"expected {wanted}"
        )

    def require_whole(self) -> None:
        for k, cell in enumerate(self.cells):
            if cell.lower() in BLANKS:
                raise self.fail(k, "something; only features may be missing")

    def is_words(self) -> bool:
        """Whether there are words, and not numbers; a mixture is refused."""
        numbers = [_is_number(cell) for cell in self.cells]
        if any(numbers) and not all(numbers):
            raise self.fail(numbers.index(False), "a number, as in other lines; or words in all")
        return not numbers[0]

    def floats(self) -> np.ndarray:
        if self.is_words():
            raise self.fail(0, "a number")
        return np.array([float(cell) for cell in self.cells])

    def codes(self) -> np.ndarray:
        """Integers as they are, 3.0 too; words by their number in order."""
        try:
            numbers = [float(cell) for cell in self.cells]
            # Beyond, a float does not tell neighbours apart.
            if all(number.is_integer() and abs(number) < 2**53 for number in numbers):
                return np.array(numbers).astype(np.int64)
            return np.array([int(cell) for cell in self.cells], np.int64)
        except (ValueError, OverflowError):
            return np.unique(self.cells, return_inverse=True)[1].astype(np.int64)

    def one_hot(self, categories: tuple[str, ...]) -> np.ndarray:
        place = {word: k for k, word in enumerate(categories)}
        codes = []
        for k, cell in enumerate(self.cells):
            if cell not in place:
                raise self.fail(
                    k, f"one of {_some(categories)}, those of the file that was trained on"
                )
            codes.append(place[cell])
        return np.eye(len(categories), dtype=np.float32)[codes]

    def found(self) -> tuple[str, ...]:
        """The categories that there are, sorted."""
        words = tuple(sorted(set(self.cells)))
        if len(words) > MAX_CATEGORIES:
            raise ValueError(
                f"{self.name} has {len(words)} different words in column {self.column!r}: expected "
                f"at most {MAX_CATEGORIES} categories; is it a name of rows?"
            )
        return words


def _parts(
    texts: dict[str, _Text], columns: Columns, known: bool
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Arrays of what is beside the values, and the categories among the covariates."""
    for text in texts.values():
        text.require_whole()
    parts: dict[str, np.ndarray] = {}
    categories = dict(columns.categories)
    blocks = []
    for column in columns.covariates:
        text = texts[column]
        if column not in categories and not known and text.is_words():
            categories[column] = text.found()
        if column in categories:
            blocks.append(text.one_hot(categories[column]))
        else:
            blocks.append(text.floats()[:, None])
    if blocks:
        parts["covariates"] = np.concatenate(blocks, 1)
    for part in ("exposure", "times"):
        for column in getattr(columns, part):
            parts[part] = texts[column].floats()
    for column in columns.groups:
        parts["groups"] = texts[column].codes()
    if columns.labels:
        parts["labels"] = _labels([texts[column] for column in columns.labels])
    return {part: parts[part] for part in PARTS if part in parts}, categories


def _labels(texts: list[_Text]) -> np.ndarray:
    """Classes of one column of integers or words, angles of columns of other numbers."""
    if len(texts) > 1:
        return np.stack([text.floats() for text in texts], 1)
    codes = texts[0]
    is_class = codes.is_words() or all(float(cell).is_integer() for cell in codes.cells)
    return codes.codes() if is_class else codes.floats()
