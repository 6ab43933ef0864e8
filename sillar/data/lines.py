"""CSV files whose rows stay on disk, found through an index of the places of lines."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sillar.data import table
from sillar.data.answers import Answers
from sillar.data.dataset import Dataset
from sillar.data.source import Source, open_source
from sillar.data.stored import StoredArray
from sillar.errors import DataError

_BLOCK = 1 << 12  # bytes from one entry of the index to the next, at least
_LIMIT = 1 << 24  # bytes of a line


class Layout(NamedTuple):
    """How the lines of a file are to be understood."""

    delimiter: str
    names: list[str] | None
    width: int  # cells in a line
    target: int | None  # column of answers
    dtype: str


class StoredCsv(StoredArray):
    """The numbers of a CSV file: a block of lines is read where a row is asked for.

    `starts` and `rows` hold the place and the number of the first row of each block.
    """

    def __init__(
        self, path: str, layout: Layout, starts: np.ndarray, rows: np.ndarray
    ) -> None:
        self.path, self.layout = path, layout
        self.starts, self.rows = starts, rows
        columns = layout.width - (layout.target is not None)
        self.shape, self.dtype = (int(rows[-1]), columns), np.dtype(layout.dtype)
        self._block: tuple[int, list[bytes]] = (-1, [])

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_block": (-1, [])}

    def row(self, number: int) -> np.ndarray:
        block = int(np.searchsorted(self.rows, number, side="right")) - 1
        known, lines = self._block
        if known != block:
            lines = self._read(block)
            self._block = block, lines
        cells = _cells(lines[number - int(self.rows[block])], self.layout.delimiter)
        line = number + 1 + (self.layout.names is not None)
        if len(cells) != self.layout.width:
            raise self._error(line, "the file has changed; open it again")
        if self.layout.target is not None:
            cells.pop(self.layout.target)
        return self._numbers(line, cells)

    def _read(self, block: int) -> list[bytes]:
        start, end = int(self.starts[block]), int(self.starts[block + 1])
        with open(self.path, "rb") as file:
            file.seek(start)
            lines = file.read(end - start).split(b"\n")
        if len(lines) < self.rows[block + 1] - self.rows[block]:
            raise self._error(int(self.rows[block]) + 1, "the file has changed")
        return lines

    def _numbers(self, line: int, cells: list[str]) -> np.ndarray:
        try:
            if any("_" in cell or not cell.isascii() for cell in cells):
                raise ValueError  # float() takes 1_0 and other scripts
            with np.errstate(over="ignore"):
                found = np.array([float(cell) for cell in cells]).astype(self.dtype)
        except ValueError:
            wrong = next(c for c in cells if table.kind_of(c) in ("word", "nothing"))
            raise self._error(
                line, f"expected a number, got {wrong[:40]!r}; correct the line"
            ) from None
        if not np.isfinite(found).all():
            raise self._error(line, f"expected finite numbers that fit {self.dtype}")
        return found

    def _error(self, line: int, problem: str) -> DataError:
        return DataError(f"open_csv: {self.path!r}: line {line}: {problem}")


def open_csv(
    path: str | os.PathLike[str],
    *,
    target: str | int | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    dtype: str = "float32",
) -> StoredArray | Dataset:
    """Return what `read_csv` returns, with x (rows, columns) left in the file.

    The file is read once, for the places of its lines and for the answers. Memory: 16
    bytes for each 4 KiB of the file, 8 for each answer, and the rows of one block of 4
    KiB, or one line if that is longer. Numbers are checked when their row is read.
    """
    table.check_options(header, delimiter)
    kind = table.float_type(dtype)
    with open_source(path, "open_csv") as source:
        layout, first = _layout(source, target, header, (delimiter, kind.str))
        index, answers = _index(source, layout, first)
        x = StoredCsv(os.path.abspath(path), layout, *index)
        if layout.target is None:
            return x
        try:
            y, classes = answers.finish(kind)
        except DataError as fault:
            raise source.error(str(fault)) from None
        return Dataset(x, y, classes, Path(path).stem)


def _layout(
    source: Source,
    target: str | int | None,
    header: bool | None,
    form: tuple[str, str],
) -> tuple[Layout, int]:
    """Return what the first line says, and the place where the rows begin."""
    delimiter, dtype = form
    mark = source.stream.read(3)
    begin = 3 if mark == b"\xef\xbb\xbf" else 0
    source.stream.seek(begin)
    line = source.stream.readline(_LIMIT)
    if mark[:2] == b"\x1f\x8b" or b"\0" in line:
        raise source.error("expected text, got packed or binary data; unpack it first")
    cells = _checked(source, 1, line, delimiter)
    row = table.Row(1, cells)
    named = table.looks_like_names(row) if header is None else header
    names = table.names_of(source, row) if named else None
    column = None
    if target is not None:
        column = table.column_of(source, target, names, row)
    start = begin + len(line) if named else begin
    return Layout(delimiter, names, len(cells), column, dtype), start


def _index(
    source: Source, layout: Layout, start: int
) -> tuple[tuple[np.ndarray, np.ndarray], Answers]:
    """Read all lines once; return places and rows of blocks, and the answers."""
    source.stream.seek(start)
    places, rows, answers = array("q", [start]), array("q", [0]), Answers()
    place, count, blank = start, 0, 0
    while line := source.stream.readline(_LIMIT):
        number = count + 1 + (layout.names is not None)
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise source.error(f"line {blank}: expected a row, got a blank line")
        if place - places[-1] >= _BLOCK:
            places.append(place)
            rows.append(count)
        _take(source, layout, answers, (number, line))
        place, count = place + len(line), count + 1
    if not count:
        raise source.error("expected rows below the header, got none; add rows")
    places.append(place)
    rows.append(count)
    return (np.array(places), np.array(rows)), answers


def _take(
    source: Source, layout: Layout, answers: Answers, place: tuple[int, bytes]
) -> None:
    """Check the number of cells in a line, and take its answer."""
    number, line = place
    last = layout.width - 1
    comma = layout.delimiter.encode()
    if b'"' not in line and line.count(comma) == last and len(line) < _LIMIT:
        if layout.target is None:
            return
        if layout.target == last:  # the usual place, which needs no split
            cell = line[line.rfind(comma) + 1 :]
        else:
            cell = line.split(comma, layout.target + 1)[layout.target]
        text = _decoded(source, number, cell).strip()
    else:
        cells = _checked(source, number, line, layout.delimiter)
        if len(cells) != layout.width:
            raise source.error(
                f"line {number}: expected {layout.width} cells as in line 1, got"
                f" {len(cells)}; complete the row, or quote cells with the delimiter"
            )
        if layout.target is None:
            return
        text = cells[layout.target]
    try:
        answers.add(text)
    except DataError as fault:
        raise source.error(f"line {number}, target column: {fault}") from None


def _checked(source: Source, number: int, line: bytes, delimiter: str) -> list[str]:
    if len(line) >= _LIMIT:
        raise source.error(
            f"line {number}: expected fewer than {_LIMIT:,} bytes, got more; check that"
            " the file is text with line ends"
        )
    _decoded(source, number, line)
    try:
        return _cells(line, delimiter)
    except ValueError as fault:
        raise source.error(
            f"line {number}: expected cells with closed, doubled quotes in one line,"
            f" got damage ({fault}); correct the line"
        ) from None


def _decoded(source: Source, number: int, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise source.error(
            f"line {number}: expected UTF-8 text, got {data[:40]!r}; convert the file"
        ) from None


def _cells(line: bytes, delimiter: str) -> list[str]:
    text = line.decode().rstrip("\r\n")
    if '"' not in text:
        return [cell.strip() for cell in text.split(delimiter)]
    return _unquoted(text, delimiter)


def _unquoted(text: str, delimiter: str) -> list[str]:
    import csv

    spaced = delimiter != " "
    try:
        rows = csv.reader(
            [text], delimiter=delimiter, skipinitialspace=spaced, strict=True
        )
        return [cell.strip() for cell in next(rows)]
    except csv.Error as fault:
        raise ValueError(str(fault)) from None
