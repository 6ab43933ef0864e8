"""Parquet files whose rows stay on disk, read by row groups (pyarrow, extra `data`)."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sillar.data.answers import Answers
from sillar.data.dataset import Dataset
from sillar.data.stored import StoredArray
from sillar.data.table import float_type
from sillar.errors import ConfigError, DataError, missing

_KEPT = 1 << 26  # bytes of row groups that stay in memory


class StoredParquet(StoredArray):
    """Number columns of a Parquet file; the row groups used last stay in memory."""

    def __init__(self, path: str, target: str | None, dtype: str) -> None:
        self.path, self.target, self.file = path, target, _opened(path)
        self.columns = _columns(self.file, path, target)
        meta = self.file.metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        if min(sizes, default=0) < 0 or sum(sizes) != meta.num_rows:
            raise DataError(
                f"open_parquet: {path!r}: expected row groups of {meta.num_rows:,} rows"
                f" in all, got {sizes!r:.60}; fetch the file again"
            )
        self.ends = np.cumsum(sizes, dtype=np.int64)
        self.shape, self.dtype = (meta.num_rows, len(self.columns)), np.dtype(dtype)
        self._groups: OrderedDict[int, np.ndarray] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredParquet, (self.path, self.target, self.dtype.str)

    def row(self, number: int) -> np.ndarray:
        group = int(np.searchsorted(self.ends, number, side="right"))
        rows = self._group(group)
        return rows[number - int(self.ends[group])]  # counted from the group's end

    def _group(self, number: int) -> np.ndarray:
        """Return the rows of a group, finite; forget those unused for longest."""
        if number in self._groups:
            self._groups.move_to_end(number)
            return self._groups[number]
        start = int(self.ends[number - 1]) if number else 0
        count = int(self.ends[number]) - start
        room = _KEPT - count * self.shape[1] * self.dtype.itemsize
        while self._groups and sum(g.nbytes for g in self._groups.values()) > room:
            self._groups.popitem(last=False)
        read = self.read(number, self.columns)
        rows = np.empty((count, self.shape[1]), self.dtype)
        for place, name in enumerate(self.columns):
            with np.errstate(over="ignore"):  # a null becomes NaN
                rows[:, place] = read.column(place).to_numpy()
            self._check(rows[:, place], start, name)
        self._groups[number] = rows
        return rows

    def read(self, group: int, columns: list[str]) -> Any:
        """Return columns of a row group, as pyarrow reads them.

        The system's memory is asked for it: other pools keep what they were given.
        """
        import pyarrow

        promised = self.file.metadata.row_group(group).num_rows
        usual = pyarrow.default_memory_pool()
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
        try:
            read = self.file.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pyarrow.ArrowException) as fault:
            raise self._damage(group, f"damage ({fault!s:.100})") from None
        finally:
            pyarrow.set_memory_pool(usual)
        if read.num_rows != promised:
            raise self._damage(group, f"{read.num_rows:,} rows of {promised:,}")
        return read

    def answers(self, group: int, target: str) -> list[Any]:
        """Return a column of a row group as Python's values."""
        import pyarrow

        column = self.read(group, [target]).column(0)
        try:
            values: list[Any] = column.to_pylist()
        except (UnicodeDecodeError, pyarrow.ArrowException) as fault:
            raise self._damage(group, f"damage ({fault!s:.100})") from None
        return values

    def _damage(self, group: int, found: str) -> DataError:
        return DataError(
            f"open_parquet: {self.path!r}: row group {group}: expected readable data,"
            f" got {found}; fetch the file again"
        )

    def _check(self, values: np.ndarray, start: int, name: str) -> None:
        if not np.isfinite(values).all():
            row = start + int(np.argmin(np.isfinite(values)))
            raise DataError(
                f"open_parquet: {self.path!r}: row {row}, column {name!r}: expected a"
                f" finite number that fits {self.dtype}, got nothing or infinity; fill"
                " it in, or leave the row out"
            )


def open_parquet(
    path: str | os.PathLike[str], *, target: str | None = None, dtype: str = "float32"
) -> StoredArray | Dataset:
    """Return the numbers (rows, columns) of a Parquet file, or with `target` a Dataset.

    x stays in the file. Memory: row groups of 64 MiB as numbers, or one if that is
    larger, a group as pyarrow reads it, what the file says about itself,
    and 8 bytes for each answer. Rows in random order are slow unless all groups fit
    there, since a group is read where a row of it is asked for.
    """
    name, kind = os.path.abspath(path), float_type(dtype)
    x = StoredParquet(name, target, kind.str)
    if target is None:
        return x
    answers = Answers()
    for group in range(len(x.ends)):
        for place, value in enumerate(x.answers(group, target)):
            _add(answers, value, f"open_parquet: {name!r}: row group {group}, {place}")
    try:
        y, classes = answers.finish(kind)
    except DataError as fault:
        raise DataError(f"open_parquet: {name!r}: {fault}") from None
    return Dataset(x, y, classes, Path(path).stem)


def _add(answers: Answers, value: Any, place: str) -> None:
    text = int(value) if isinstance(value, bool) else value
    try:
        answers.add("" if text is None else str(text))
    except DataError as fault:
        raise DataError(f"{place}: {fault}") from None


def _opened(path: str) -> Any:
    pyarrow, parquet = _pyarrow("open_parquet")
    try:
        file = parquet.ParquetFile(path, memory_map=False, buffer_size=1 << 20)
        file.schema_arrow.names  # noqa: B018  # decodes them
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as fault:
        raise DataError(
            f"open_parquet: {path!r}: expected a Parquet file, got: {fault!s:.200};"
            " check the path, or fetch the file again"
        ) from None
    return file


def _columns(file: Any, path: str, target: str | None) -> list[str]:
    """Return the columns of numbers; all but the target must be such."""
    import pyarrow

    kinds = pyarrow.types
    fields = {field.name: field.type for field in file.schema_arrow}
    if target is not None and target not in fields:
        raise ConfigError(
            f"open_parquet: {path!r}: expected target to be one of the columns"
            f" {', '.join(map(repr, fields))!s:.400}, got {target!r:.60}"
        )
    columns = [name for name in fields if name != target]
    for name in columns:
        kind = fields[name]
        if not (
            kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)
        ):
            raise DataError(
                f"open_parquet: {path!r}: expected numbers in column {name!r}, got"
                f" {kind}; encode words as numbers, or leave the column out"
            )
    if not columns:
        raise DataError(
            f"open_parquet: {path!r}: expected columns of numbers, got none"
        )
    return columns


def write_parquet(file: BinaryIO, columns: Mapping[str, Any]) -> None:
    """Write columns of one length, arrays or lists, as a Parquet file."""
    pyarrow, parquet = _pyarrow("write_parquet")
    table = pyarrow.table(
        {str(name): pyarrow.array(c, from_pandas=True) for name, c in columns.items()}
    )
    parquet.write_table(table, file)


def parquet_rows(path: str | os.PathLike[str]) -> int:
    """Return how many rows a Parquet file says it has."""
    return int(_opened(os.fspath(path)).metadata.num_rows)


def _pyarrow(operation: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise missing("pyarrow", "data", operation) from None
    return pyarrow, parquet
