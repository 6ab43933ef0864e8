"""TableTransform: columns of numbers and words, as numbers a model can take."""

from __future__ import annotations

import math
import reprlib  # what came may be nested deeper than repr can go
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sillar.data.encoder import Encoder
from sillar.errors import ConfigError, DataError, FormatError

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
LIMIT = 10.0  # standard deviations: what is further away is brought to it
MOST = 4096  # categories of a column


class TableTransform(Encoder):
    """A fitted map from columns of text or numbers to rows of float32.

    A number is less the mean and divided by the deviation of the rows it was fitted
    on, after sign(x) log(1 + |x|) for the columns in `log`; a missing one is their
    median, and a column of its own says so if any was missing there. A category
    becomes one column of 0 and 1 for each value seen; one never seen is 0 in all, and
    missing is a value. One in `codes` becomes a whole number instead, for vectors of
    its own (`nn.CodedDense`): 0 if never seen, others from 1 on; codes are the last
    columns, and `sizes` says how many numbers each has. Columns that are not named are
    numbers if all their cells are.

    Fit it on the rows to train on alone. `save(model, path, encoder=transform)`
    keeps it in the model's file.
    """

    def __init__(
        self,
        *,
        numbers: Sequence[str] = (),
        categories: Sequence[str] = (),
        log: Sequence[str] = (),
        codes: Sequence[str] = (),
        drop: Sequence[str] = (),
    ) -> None:
        self.numbers, self.categories = tuple(numbers), tuple(categories)
        self.log, self.drop, self.codes = tuple(log), tuple(drop), tuple(codes)
        twice = {*numbers, *log} & {*categories, *codes}
        if twice:
            raise ConfigError(
                f"TableTransform: expected each column once, got {sorted(twice)} as"
                " numbers and as categories"
            )
        self._fitted: list[dict[str, Any]] | None = None

    def fit(self, columns: Mapping[str, Sequence[Any]], /) -> TableTransform:
        """Learn scales and categories from these rows; return the transform."""
        _length(columns)
        named = *self.numbers, *self.categories, *self.log, *self.codes, *self.drop
        for name in named:
            if name not in columns:
                raise DataError(
                    f"TableTransform: no column {name!r:.60}, there are"
                    f" {', '.join(columns)}"
                )
        kept = [name for name in columns if name not in self.drop]
        if not kept:
            raise ConfigError("TableTransform: no column is left")
        kept.sort(key=lambda name: name in self.codes)  # the others in their order
        self._fitted = [self._learn(name, columns[name]) for name in kept]
        return self

    def __call__(self, columns: Mapping[str, Sequence[Any]], /) -> np.ndarray:
        """Return the rows as float32 (n, len(self.names)); other columns are left."""
        n = _length(columns)
        parts = []
        for column in self._ready():
            name = column["name"]
            if name not in columns:
                raise DataError(
                    f"TableTransform: expected the column {name!r:.60}, got"
                    f" {', '.join(columns):.200}"
                )
            parts.append(CHANGES[column["kind"]](columns[name], column))
        return np.concatenate([np.zeros((n, 0), np.float32), *parts], axis=1)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns that come out, as `service=http`."""
        found: list[str] = []
        for column in self._ready():
            name = column["name"]
            if column["kind"] == "category":
                found += [f"{name}={value}" for value in column["values"]]
            else:
                found += [name] + [f"{name} is missing"] * column.get("missing", 0)
        return tuple(found)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that go in."""
        return tuple(column["name"] for column in self._ready())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many numbers each column of codes has, that of the unseen too."""
        codes = (column for column in self._ready() if column["kind"] == "code")
        return tuple(1 + len(column["values"]) for column in codes)

    def describe(self) -> dict[str, Any]:
        """Return the fitted transform as plain data."""
        return {"type": "TableTransform", "columns": [dict(c) for c in self._ready()]}

    @classmethod
    def build(cls, described: Any) -> TableTransform:
        """Return the transform that was described; what is not one is refused."""
        columns = described.get("columns") if isinstance(described, dict) else None
        known = isinstance(columns, list) and described.get("type") == "TableTransform"
        if not known or not columns or not all(map(_is_column, columns)):
            raise FormatError(
                f"TableTransform: expected what describe() gives, got"
                f" {reprlib.repr(described)}"
            )
        made = cls()
        made._fitted = columns
        return made

    def __repr__(self) -> str:
        if self._fitted is None:
            return "TableTransform(not fitted)"
        return f"TableTransform({len(self._fitted)} columns -> {len(self.names)})"

    def _ready(self) -> list[dict[str, Any]]:
        if self._fitted is None:
            raise ConfigError("TableTransform: call fit(columns) first")
        return self._fitted

    def _learn(self, name: str, cells: Sequence[Any]) -> dict[str, Any]:
        words = name in self.categories or name in self.codes
        x = None if words else _numbers(cells)
        if x is None and (name in self.numbers or name in self.log):
            wrong = next(c for c in cells if _number(c) is None)
            raise DataError(
                f"TableTransform: expected numbers in {name!r:.60}, got {wrong!r:.40}"
            )
        if x is None:
            kind = "code" if name in self.codes else "category"
            return {"name": name, "kind": kind, "values": _values(name, cells)}
        logged = name in self.log
        found = x[~np.isnan(x)]
        median = float(np.median(found)) if found.size else 0.0
        scaled = _logged(found) if logged else found
        centre, spread = _scale(scaled) if found.size else (0.0, 1.0)
        return {
            "name": name,
            "kind": "number",
            "log": logged,
            "fill": median,
            "centre": centre,
            "spread": spread if spread > 0 else 1.0,
            "missing": bool(found.size < x.size),
        }


def _length(columns: Mapping[str, Sequence[Any]]) -> int:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if not lengths or len(set(lengths.values())) > 1:
        raise DataError(
            f"TableTransform: expected columns of one length, got {lengths!r:.200}"
        )
    return next(iter(lengths.values()))


def _values(name: str, cells: Sequence[Any]) -> list[str]:
    values = sorted({_word(cell) for cell in cells})
    if len(values) > MOST:
        raise DataError(
            f"TableTransform: {name!r:.60} has {len(values)} different values, more"
            f" than {MOST}: is it an identifier? leave it out with drop"
        )
    return values


def _number(cell: Any) -> float | None:
    """Return a cell as a number, nan where it is missing, None where it is a word."""
    if isinstance(cell, str):
        if cell.strip().lower() in MISSING:
            return math.nan
        if "_" in cell or not cell.isascii():
            return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return math.nan if cell is None else None
    return value if math.isfinite(value) else math.nan


def _numbers(cells: Sequence[Any]) -> np.ndarray | None:
    """Return cells as float64, nan where missing; None if one of them is a word."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
        x = cells.astype(np.float64)
        return np.where(np.isfinite(x), x, np.nan)
    found = [_number(cell) for cell in cells]
    return None if None in found else np.array(found, np.float64)


def _word(cell: Any) -> str:
    """Return a cell as a category; all that is missing is one."""
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in MISSING else text


def _scale(x: np.ndarray) -> tuple[float, float]:
    """Return mean and deviation, finite however large the numbers are."""
    with np.errstate(over="ignore", invalid="ignore"):
        centre, spread = float(x.mean()), float(x.std())
    if math.isfinite(centre) and math.isfinite(spread):
        return centre, spread
    most = float(np.abs(x).max())
    return float((x / most).mean()) * most, float((x / most).std()) * most


def _logged(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.log1p(np.abs(x))


def _scaled(cells: Sequence[Any], column: Mapping[str, Any]) -> np.ndarray:
    x = _numbers(cells)
    if x is None:
        row, wrong = next((i, c) for i, c in enumerate(cells) if _number(c) is None)
        raise DataError(
            f"TableTransform: expected a number in {column['name']!r:.60}, got"
            f" {wrong!r:.40} in row {row}"
        )
    absent = np.isnan(x)
    x = np.where(absent, column["fill"], x)
    x = _logged(x) if column["log"] else x
    centre, spread = column["centre"], column["spread"]
    with np.errstate(over="ignore"):
        z = (x - centre) / spread
        z = np.where(np.isfinite(z), z, x / spread - centre / spread)
    z = np.clip(z, -LIMIT, LIMIT)
    parts = [z, absent] if column["missing"] else [z]
    return np.stack(parts, axis=1).astype(np.float32)


def _coded(cells: Sequence[Any], column: Mapping[str, Any]) -> np.ndarray:
    places = {value: i for i, value in enumerate(column["values"], 1)}
    codes = [places.get(_word(cell), 0) for cell in cells]
    return np.array(codes, np.float32).reshape(-1, 1)  # exact up to 2^24


def _one_hot(cells: Sequence[Any], column: Mapping[str, Any]) -> np.ndarray:
    seen = np.arange(1, len(column["values"]) + 1)
    return (_coded(cells, column) == seen).astype(np.float32)


CHANGES = {"number": _scaled, "category": _one_hot, "code": _coded}


def _is_column(column: Any) -> bool:
    """Say whether plain data describes a fitted column."""
    if not isinstance(column, dict) or type(column.get("name")) is not str:
        return False
    if column.get("kind") in ("category", "code"):
        values = column.get("values")
        return (
            column.keys() == {"name", "kind", "values"}
            and isinstance(values, list)
            and all(type(value) is str for value in values)
            and len(set(values)) == len(values) <= MOST
        )
    scales = [column.get(name) for name in ("fill", "centre", "spread")]
    flags = [column.get(name) for name in ("log", "missing")]
    return (
        column.get("kind") == "number"
        and len(column) == 7
        and all(type(v) in (int, float) and math.isfinite(v) for v in scales)
        and scales[2] > 0
        and all(type(flag) is bool for flag in flags)
    )
