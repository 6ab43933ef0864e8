"""The source "table": a CSV file of words and numbers, with a column of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sillar.cli import show
from sillar.cli.cutting import Keys, confirm, groups_of, times_of
from sillar.cli.origin import Parts, Source, in_order, row_told
from sillar.data import Dataset, TableTransform, read_columns
from sillar.data.columns import Columns
from sillar.data.encoder import Encoder
from sillar.errors import ConfigError, DataError
from sillar.train.prepare import parts as divide


@dataclass(frozen=True, kw_only=True)
class Table(Source):
    """One file that is split, or a second one to test on, both in `folder`.

    `folder` may be the file itself. Answers are names of classes, or with `values`
    numbers. `classes` are the names in their order: of two the last is what alarms are
    of; see `in_order` for what they are if they are not given.

    No group of the column `groups` is in two parts; with `time`, each part is later
    than all that is trained on. Otherwise rows are drawn, each class evenly.

    What is learned of the columns (scales, categories, what stands in for missing
    values) is learned from the rows to train on, and is kept in the model's file.
    """

    target: str
    folder: str = ""
    path: str = ""
    test: float | int = 0.2
    test_path: str = ""
    split_seed: int = 0
    delimiter: str = ","
    header: bool | None = None
    classes: list[str] | None = None
    numbers: list[str] | None = None
    categories: list[str] | None = None
    log: list[str] | None = None
    codes: list[str] | None = None
    values: bool | None = None
    drop: list[str] | None = None
    groups: str = ""
    time: str = ""
    found: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    tested: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def use(self, encoder: Encoder | None) -> None:
        if isinstance(encoder, TableTransform):
            self.found["encoder"] = encoder

    def told(self, row: int) -> str | None:
        number, used = int(self.tested["rows"][row]), self.found["encoder"].columns
        columns = {name: self.tested["columns"][name] for name in used}
        return f"{row_told(columns, number)} (row {number} of the file)"

    def words(self) -> dict[str, Any]:
        """Return the sizes of codes, for models that have vectors for them."""
        return {"codes": list(self.found["encoder"].sizes)}

    @property
    def notes(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the fitted transform, once the parts were read."""
        return self.found

    def parts(self, seed: int) -> Parts:
        if not self.target:
            raise ConfigError(
                "data: name the column of answers with --target NAME, or data.target"
            )
        columns, y, classes = self._read(self.path, self.classes)
        keys = self._keys(columns, self.path)
        train, tested = _rows(y, classes), None
        if not self.test_path:
            train, tested = _cut(train, keys, self.test, self.split_seed)
        if keys.any and self.validation:
            train, held = _cut(train, keys, self.validation, seed)
        else:
            train, held = divide(train, self.validation or None, seed)
        if "encoder" not in self.found:
            self.found["encoder"] = self._learned(_rows_of(columns, train))
        columns_of_test, keys_of_test = columns, keys
        if tested is None:
            columns_of_test, y, _ = self._read(self.test_path, classes)
            keys_of_test = self._keys(columns_of_test, self.test_path)
            tested = _rows(y, classes)
        if keys.any:
            named = {"train": (train, keys), "validation": (held, keys)}
            named["test"] = tested, keys_of_test
            confirm({name: (p, k) for name, (p, k) in named.items() if p is not None})
        test = self._test_part(tested, columns_of_test)
        validation = None if held is None else self._part(held, columns)
        return Parts(self._part(train, columns), validation, test)

    def whole(self) -> Dataset | None:
        if self.test_path:
            return None
        columns, y, classes = self._read(self.path, self.classes)
        return self._test_part(_rows(y, classes), columns)

    def _part(self, chosen: Dataset, columns: Columns) -> Dataset:
        x = self.found["encoder"](_rows_of(columns, chosen))
        return Dataset(x, chosen.y, chosen.classes, Path(self.path or self.folder).stem)

    def _test_part(self, tested: Dataset, columns: Columns) -> Dataset:
        self.tested.update(rows=tested.x[:, 0], columns=columns)
        return self._part(tested, columns)

    def _keys(self, columns: Columns, path: str) -> Keys:
        """Return the columns to cut by; they are features only if they are listed."""
        found: list[np.ndarray | None] = []
        for name, read in ((self.groups, groups_of), (self.time, times_of)):
            if name and name not in columns:
                raise DataError(
                    f"data: expected a column {name!r:.60} to cut by, got"
                    f" {', '.join(columns):.200}: check data.groups and data.time"
                )
            where = f"{path or self.folder!r}, {name!r:.60}"
            found.append(read(columns[name], where) if name else None)
        lists = self.numbers, self.categories, self.log, self.codes, self.drop
        listed = {name for names in lists for name in names or ()}
        for name in {self.groups, self.time} - listed:
            columns.pop(name, None)
        if not columns:
            raise DataError(
                "data: expected a column to learn from, got only the target,"
                " data.groups and data.time: list one of them in data.numbers or"
                " data.categories"
            )
        return Keys(*found)

    def _learned(self, columns: Columns) -> TableTransform:
        """Return what these columns teach; they are of the rows to train on."""
        transform = TableTransform(
            numbers=self.numbers or (),
            categories=self.categories or (),
            log=self.log or (),
            codes=self.codes or (),
            drop=self.drop or (),
        ).fit(columns)
        _warn_of_identifiers(transform, len(next(iter(columns.values()))))
        return transform

    def _read(
        self, path: str, classes: Sequence[str] | None
    ) -> tuple[Columns, np.ndarray, tuple[str, ...] | None]:
        """Return the columns but the target, the answers, and their classes."""
        folder = Path(self.folder)
        file = folder if folder.is_file() and not path else folder / path
        if file == folder and not folder.is_file():
            raise ConfigError(
                "data: a table is one file: name it with --data FILE, or data.path"
            )
        columns = read_columns(file, header=self.header, delimiter=self.delimiter)
        if self.target not in columns:
            raise DataError(
                f"data: {str(file)!r} has no column {self.target!r:.60} to learn, it"
                f" has {', '.join(columns):.200}: check the spelling, data.delimiter,"
                " and data.header, true if line 1 holds names that are numbers"
            )
        answers = columns.pop(self.target)
        if not columns:
            raise DataError(f"data: {str(file)!r} has no column beside the target")
        where = f"{str(file)!r}, {self.target!r:.60}"
        if self.values:
            return columns, _values(answers, where), None
        names = tuple(classes) if classes else _classes(answers, where)
        codes = {name: code for code, name in enumerate(names)}
        unknown = sorted(set(answers) - codes.keys())
        if unknown:
            raise DataError(
                f"data: {str(file)!r} has the classes {unknown!r:.80}, not among"
                f" {list(names)!r:.80}"
            )
        y = np.array([codes[answer] for answer in answers], np.int64)
        return columns, y, names


def _classes(answers: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the classes in their order: two or more, and not one for each row."""
    counts = Counter(answers)
    if "" in counts:
        raise DataError(
            f"data: {where}, row {answers.index('')}: expected an answer, got an empty"
            f" cell, as in {counts['']} rows: fill them in, or leave the rows away"
        )
    if len(counts) < 2:
        raise DataError(
            f"data: {where}: expected two classes or more to learn, got only"
            f" {answers[0]!r:.40}: add rows of another class"
        )
    if len(counts) > max(2, len(answers) / 2):
        raise DataError(
            f"data: {where} has {len(counts)} different answers in {len(answers)} rows:"
            " expected classes; numbers to learn are for the recipe regression"
        )
    return in_order(counts)


def _warn_of_identifiers(transform: TableTransform, rows: int) -> None:
    """Say which columns tell rows apart and no kinds of rows."""
    for column in transform.describe()["columns"]:
        count = len(column.get("values", ()))
        if rows > 20 and count > rows / 2:
            name = column["name"]
            show.say(
                f"warning: the column {name!r:.60} has {count} different values in"
                f" {rows} rows: is it an identifier? leave it out with"
                f" --set 'data.drop=[\"{name}\"]'",
                style="yellow",
            )


def _values(answers: Sequence[str], where: str) -> np.ndarray:
    """Return answers as float32; each must be a number."""
    y = np.empty(len(answers), np.float32)
    for row, cell in enumerate(answers):
        try:
            y[row] = float(cell)
        except ValueError:
            y[row] = np.nan
        if not np.isfinite(y[row]):
            raise DataError(
                f"data: {where}, row {row}: expected a number to learn, got"
                f" {cell!r:.40}: leave the row away, or data.values for names"
            )
    return y


def _rows(y: np.ndarray, classes: Sequence[str] | None) -> Dataset:
    """Return the numbers of the rows as x, so that cuts say which rows are where."""
    return Dataset(np.arange(len(y))[:, None], y, classes)


def _cut(
    rows: Dataset, keys: Keys, size: float | int, seed: int
) -> tuple[Dataset, Dataset]:
    if keys.any:
        return keys.cut(rows, size, seed)
    return rows.split(size, seed=seed, stratify=rows.classes is not None)


def _rows_of(columns: Columns, part: Dataset) -> Columns:
    rows = part.x[:, 0].tolist()
    return {name: [cells[row] for row in rows] for name, cells in columns.items()}
