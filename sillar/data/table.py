"""Tables: comma-separated numbers, with or without a column of answers."""

from __future__ import annotations

import contextlib
import io
import os
import re
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO, overload

import numpy as np

from sillar.data.dataset import Dataset
from sillar.data.source import Source, open_source
from sillar.errors import ConfigError, DataError, DtypeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_TEXT = re.compile("[\0\udc80-\udcff]")  # bytes that are not UTF-8 come as these
_LINE_LIMIT = 1 << 24  # characters
_NO_DELIMITER = set("\"'\r\n+-._\\")


class Row(NamedTuple):
    """The cells of a line, and its number."""

    line: int
    cells: list[str]


@overload
def read_csv(
    path: str | os.PathLike[str],
    *,
    target: None = None,
    header: bool | None = None,
    delimiter: str = ",",
    dtype: DTypeLike = "float32",
) -> np.ndarray:
    """Return the numbers of all columns."""


@overload
def read_csv(
    path: str | os.PathLike[str],
    *,
    target: str | int,
    header: bool | None = None,
    delimiter: str = ",",
    dtype: DTypeLike = "float32",
) -> Dataset:
    """Return the numbers, and the target column as y."""


def read_csv(
    path: str | os.PathLike[str],
    *,
    target: str | int | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    dtype: DTypeLike = "float32",
) -> np.ndarray | Dataset:
    """Return the numbers (rows, columns), or with `target` a Dataset.

    The target column, given by name or number, becomes y: integers stay, other numbers
    become `dtype`, words become the numbers of their sorted classes. `header` says
    whether line 1 holds names; None: it does if none of its cells is a number.
    """
    check_options(header, delimiter)
    kind = float_type(dtype)
    with open_source(path, "read_csv") as source, text_of(source) as text:
        rows = text_rows(source, text, delimiter)
        first = next(rows, None)
        if first is None:
            raise source.error("expected rows, got blank lines only; check the file")
        named = looks_like_names(first) if header is None else header
        names = names_of(source, first) if named else None
        column = None if target is None else column_of(source, target, names, first)
        body = _Body(source, names, column)
        body.read(rows if named else chain([first], rows))
        x = body.numbers(kind)
        if column is None:
            return x
        y, classes = body.labels(kind)
    return Dataset(x, y, classes, Path(source.name).stem)


def check_options(header: bool | None, delimiter: str) -> None:
    """Raise unless both are what `read_csv` takes."""
    if header is not None and not isinstance(header, bool):
        raise ConfigError(
            f"read_csv: header must be True, False or None, got {header!r};"
            " pass True if line 1 holds the column names"
        )
    if (
        not isinstance(delimiter, str)
        or len(delimiter) != 1
        or delimiter in _NO_DELIMITER
        or delimiter.isalnum()
    ):
        raise ConfigError(
            "read_csv: delimiter must be one character that no number or quote uses,"
            f" got {delimiter!r}; use for example ',' or ';' or '\\t'"
        )


def float_type(dtype: DTypeLike) -> np.dtype:
    """Return the floating-point type in native byte order."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind.kind != "f" or kind.itemsize > 8:
        raise DtypeError(
            f"read_csv: expected dtype float16, float32 or float64, got {dtype!r};"
            " read as floats and convert afterwards"
        )
    return kind.newbyteorder("=")


def text_of(source: Source) -> io.TextIOWrapper:
    """Return the file as text whose bytes that are no UTF-8 can be told apart."""
    return io.TextIOWrapper(
        source.stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def text_rows(source: Source, text: TextIO, delimiter: str) -> Iterator[Row]:
    """Yield rows of equal length; blank lines may stand at the end only."""
    import csv

    reader = csv.reader(
        _lines(source, text),
        delimiter=delimiter,
        skipinitialspace=delimiter != " ",
        strict=True,
    )
    first, blank = None, 0
    try:
        for cells in reader:
            if cells:
                row = Row(reader.line_num, [cell.strip() for cell in cells])
                first = first or row
                _check_row(source, row, first, blank)
                yield row
            else:
                blank = blank or reader.line_num
    except csv.Error as fault:
        raise source.error(
            f"line {reader.line_num}: expected cells with closed, doubled quotes, got"
            f" damage ({fault}); correct the line"
        ) from None


def _check_row(source: Source, row: Row, first: Row, blank: int) -> None:
    if blank:
        raise source.error(
            f"line {blank}: expected a row, got a blank line; delete it or fill it in"
        )
    if len(row.cells) != len(first.cells):
        raise source.error(
            f"line {row.line}: expected {len(first.cells)} cells as in line"
            f" {first.line}, got {len(row.cells)};"
            " complete the row, or quote cells that hold the delimiter"
        )


def _lines(source: Source, text: TextIO) -> Iterator[str]:
    """Yield lines of text, refusing what is not UTF-8 and what is too long."""
    number = 0
    while line := text.readline(_LINE_LIMIT):
        number += 1
        if len(line) == _LINE_LIMIT:
            raise source.error(
                f"line {number}: expected fewer than {_LINE_LIMIT:,} characters,"
                " got more; check that the file is text with line ends"
            )
        if _NOT_TEXT.search(line):
            raise source.error(
                f"line {number}: expected UTF-8 text, got {line[:40]!r};"
                " unpack the file, or save it as UTF-8"
            )
        yield line


def looks_like_names(row: Row) -> bool:
    """Say whether no cell is a number."""
    return not any(_NUMBER.fullmatch(cell) for cell in row.cells)


def names_of(source: Source, row: Row) -> list[str]:
    """Return the column names, all of them different."""
    seen: dict[str, int] = {}
    for position, name in enumerate(row.cells):
        if not name:
            raise source.error(
                f"line {row.line}: expected a name for column {position + 1},"
                " got an empty cell; name the column, or pass header=False"
            )
        if name in seen:
            raise source.error(
                f"line {row.line}: expected different column names, got {name!r} for"
                f" columns {seen[name] + 1} and {position + 1}; rename one"
            )
        seen[name] = position
    return row.cells


def column_of(
    source: Source, target: str | int, names: list[str] | None, first: Row
) -> int:
    """Return the position of the target column."""
    width = len(first.cells)
    if width < 2:
        raise source.error(
            "expected a column of numbers besides the target, got one column only;"
            " check the delimiter"
        )
    if isinstance(target, str):
        return _named_column(source, target.strip(), names)
    if isinstance(target, bool) or not isinstance(target, int):
        raise ConfigError(
            "read_csv: target must be the name or the number of a column,"
            f" got {target!r}; count columns from 0"
        )
    if not -width <= target < width:
        raise source.error(
            f"expected target as a column number in [{-width}, {width}),"
            f" got {target}; count columns from 0"
        )
    return target % width


def _named_column(source: Source, target: str, names: list[str] | None) -> int:
    if names is None:
        raise source.error(
            "expected target as a column number, because the file has no line of names,"
            f" got {target!r}; pass header=True if line 1 holds them"
        )
    if target not in names:
        shown = ", ".join(map(repr, names[:20])) + (", ..." if names[20:] else "")
        raise source.error(
            f"expected target to be one of the columns {shown}, got {target!r};"
            " check the spelling"
        )
    return names.index(target)


class _Body:
    """The rows below the header: numbers, answers, and the lines they came from."""

    def __init__(
        self, source: Source, names: list[str] | None, column: int | None
    ) -> None:
        self.source, self.names, self.column = source, names, column
        self.values, self.lines = array("d"), array("q")
        self.answers: list[str] = []

    def read(self, rows: Iterator[Row]) -> None:
        """Take in all rows; at least one."""
        for row in rows:
            cells = row.cells.copy()
            self.lines.append(row.line)
            if self.column is not None:
                self.answers.append(cells.pop(self.column))
            self.values.extend(self._parse(row.line, cells))
        if not self.lines:
            raise self.source.error(
                "expected rows below the header, got none;"
                " add rows, or pass header=False if line 1 is one"
            )

    def numbers(self, dtype: np.dtype) -> np.ndarray:
        """Return all columns but the target's, (rows, columns), finite."""
        exact = np.frombuffer(self.values).reshape(len(self.lines), -1)
        with np.errstate(over="ignore"):
            x = exact.astype(dtype)
        wrong = np.argwhere(~np.isfinite(x))
        if len(wrong):
            row, position = map(int, wrong[0])
            raise self.source.error(
                f"{self._place(self.lines[row], position)}: expected a finite number"
                f" that fits {dtype}, got {x[row, position]};"
                " correct it, or leave the row out"
            )
        return x

    def labels(self, dtype: np.dtype) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """Return y and, if the answers are words, the classes they are numbers of."""
        kinds = [kind_of(answer) for answer in self.answers]
        if "nothing" in kinds:
            raise self._answer_error(kinds.index("nothing"), "an answer")
        if "word" not in kinds:
            numbers = self._floats if "number" in kinds else self._integers
            return numbers(dtype), None
        if set(kinds) != {"word"}:
            number = next(row for row, kind in enumerate(kinds) if kind != "word")
            expected = f"a number as in line {self.lines[number]}"
            raise self._answer_error(kinds.index("word"), expected)
        classes = tuple(sorted(set(self.answers)))
        codes = {name: code for code, name in enumerate(classes)}
        y = np.array([codes[answer] for answer in self.answers], dtype=np.int64)
        return y, classes

    def _integers(self, dtype: np.dtype) -> np.ndarray:
        y = np.empty(len(self.answers), dtype=np.int64)
        for row, answer in enumerate(self.answers):
            try:
                y[row] = int(answer)
            except (OverflowError, ValueError):  # beyond int64; beyond int's own limit
                raise self._answer_error(row, "an integer of 64 bits") from None
        return y

    def _floats(self, dtype: np.dtype) -> np.ndarray:
        with np.errstate(over="ignore"):
            y = np.array([float(answer) for answer in self.answers]).astype(dtype)
        if not np.isfinite(y).all():
            row = int(np.argmin(np.isfinite(y)))
            raise self._answer_error(row, f"a number that fits {dtype}")
        return y

    def _parse(self, line: int, cells: list[str]) -> list[float]:
        text = "".join(cells)
        if text.isascii() and "_" not in text:  # float() takes 1_0 and other scripts
            with contextlib.suppress(ValueError):
                return [float(cell) for cell in cells]
        position = next(
            number for number, cell in enumerate(cells) if not _NUMBER.fullmatch(cell)
        )
        hint = ""
        if self.names is None and len(self.lines) == 1:
            hint = "; if the line holds names, pass header=True"
        raise self.source.error(
            f"{self._place(line, position)}: expected a number,"
            f" got {cells[position][:40]!r};"
            f" encode words as numbers and fill in or leave out missing values{hint}"
        )

    def _answer_error(self, row: int, expected: str) -> DataError:
        return self.source.error(
            f"line {self.lines[row]}, target column: expected {expected},"
            f" got {self.answers[row][:40]!r}; correct it, or leave the row out"
        )

    def _place(self, line: int, position: int) -> str:
        """Name a cell of the file, given its column among the numbers."""
        if self.column is not None and position >= self.column:
            position += 1
        name = "" if self.names is None else f" ({self.names[position]!r})"
        return f"line {line}, column {position + 1}{name}"


def kind_of(answer: str) -> str:
    """Say what an answer is: nothing, integer, number or word."""
    if not answer:
        return "nothing"
    if _INTEGER.fullmatch(answer):
        return "integer"
    return "number" if _NUMBER.fullmatch(answer) else "word"
