"""Dataset: examples and their answers, row by row."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.data.stored import StoredArray
from sillar.errors import ConfigError, DataError, ShapeError

_PIECE = 1 << 22  # bytes hashed at a time


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples `x` (n, ...) with answers `y` (n, ...), read-only and of equal length.

    `x` may be a `StoredArray`, which stays on disk; `y` is always in memory.
    With `classes`, `y` holds class numbers from 0 to len(classes) - 1. Where it holds
    `ignored` there is no answer: metrics leave that place out, and so does a loss whose
    `ignore_index` is the same.
    """

    x: Any  # an array, or a StoredArray
    y: np.ndarray
    classes: tuple[str, ...] | None = None
    name: str = "dataset"
    ignored: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", _numbers(self.x, "x"))
        object.__setattr__(self, "y", _numbers(self.y, "y"))
        if len(self.x) != len(self.y):
            raise ShapeError(
                "Dataset: expected as many answers as examples,"
                f" got x {self.x.shape} and y {self.y.shape};"
                " the first sizes must be equal"
            )
        if self.classes is not None:
            object.__setattr__(self, "classes", _class_names(self.classes))
            _check_class_numbers(self.answers(), self.classes)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, indices: slice | Sequence[int] | np.ndarray) -> Dataset:
        return self.take(indices)

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", classes={len(self.classes)}"
        return (
            f"Dataset({self.name!r}, x={self.x.dtype} {self.x.shape},"
            f" y={self.y.dtype} {self.y.shape}{classes})"
        )

    def take(self, indices: slice | Sequence[int] | np.ndarray) -> Dataset:
        """Return the rows that a slice, row numbers or a mask (n,) choose."""
        rows = indices if isinstance(indices, slice) else _rows(indices, len(self))
        stored = isinstance(self.x, StoredArray)
        x = self.x.chosen(rows) if stored else self.x[rows]
        return Dataset(x, self.y[rows], self.classes, self.name, self.ignored)

    def answers(self) -> np.ndarray:
        """Return y; if some places are ignored, the others as a vector."""
        return self.y if self.ignored is None else self.y[self.y != self.ignored]

    def split(
        self,
        test: float | int = 0.2,
        *,
        seed: int = 0,
        stratify: bool | None = True,
    ) -> tuple[Dataset, Dataset]:
        """Return (rest, test), drawn by `seed`; rows keep their order.

        A float `test` is a share, an int a number of rows. Stratified, each class keeps
        its share in both parts (largest remainder), at least one row.
        """
        count = _test_count(len(self), test)
        order = Rng(seed).split("split").permutation(len(self))
        chosen = np.zeros(len(self), dtype=bool)
        if stratify:
            chosen[_stratified(self, order, count)] = True
        else:
            chosen[order[:count]] = True
        return self.take(~chosen), self.take(chosen)

    def digest(self) -> str:
        """Return the SHA-256 of types, shapes, values and class names, in hex."""
        import hashlib
        import json

        arrays = self.x, self.y
        head: list[Any] = [[a.dtype.newbyteorder("<").str, a.shape] for a in arrays]
        head += [self.classes] if self.ignored is None else [self.classes, self.ignored]
        sha = hashlib.sha256(json.dumps(head).encode())
        for array in arrays:
            rows = max(1, _PIECE * len(array) // max(1, array.nbytes))
            for start in range(0, len(array), rows):
                piece = _little_endian(array[start : start + rows])
                sha.update(np.ascontiguousarray(piece).data)
        return sha.hexdigest()


def _numbers(value: Any, role: str) -> Any:
    """Return a read-only view of an array of numbers in native byte order."""
    if role == "x" and isinstance(value, StoredArray):
        return value
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise DataError(
            f"Dataset: expected {role} as a plain NumPy array,"
            f" got {type(value).__name__}; convert it with numpy.asarray"
            " (fill masked values first)"
        )
    if value.dtype.kind not in "biufc":
        raise DataError(
            f"Dataset: expected numbers in {role}, got dtype {value.dtype};"
            " encode text as numbers first"
        )
    if value.ndim == 0:
        raise ShapeError(
            f"Dataset: expected {role} with one row per example, got a single number;"
            " give an array of shape (n, ...)"
        )
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    view = native.view(np.ndarray)
    view.flags.writeable = False
    return view


def _class_names(classes: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(classes, (tuple, list)) or not all(
        isinstance(name, str) for name in classes
    ):
        raise DataError(
            "Dataset: expected classes as a tuple of names,"
            f" got {classes!r}; write for example ('benign', 'malware')"
        )
    if len(set(classes)) != len(classes):
        raise DataError(
            f"Dataset: expected different class names, got {tuple(classes)};"
            " rename or merge the equal ones"
        )
    return tuple(classes)


def _check_class_numbers(y: np.ndarray, classes: tuple[str, ...]) -> None:
    if y.dtype.kind not in "biu":
        raise DataError(
            f"Dataset: expected class numbers (integers) in y, got {y.dtype};"
            " convert y, or leave classes away for regression"
        )
    if y.size and not (y.min() >= 0 and y.max() < len(classes)):
        raise DataError(
            f"Dataset: expected class numbers in [0, {len(classes)}) in y,"
            f" got {y.min()} to {y.max()}; name every class, or number them from 0"
        )


def _rows(indices: Sequence[int] | np.ndarray, n: int) -> np.ndarray:
    """Return row numbers in [-n, n), or the numbers of the rows a mask marks."""
    rows = np.asarray(indices)
    if rows.ndim == 1 and rows.size == 0:
        return np.zeros(0, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise ConfigError(
            "Dataset.take: expected a slice, a list of row numbers or a mask,"
            f" got {rows.dtype} of shape {rows.shape};"
            " for one row write dataset[i : i + 1]"
        )
    if rows.dtype.kind == "b":
        if len(rows) != n:
            raise ShapeError(
                f"Dataset.take: expected a mask of {n} entries, one per row,"
                f" got {len(rows)}; compute the mask from this dataset"
            )
        return np.flatnonzero(rows)
    if rows.min() < -n or rows.max() >= n:
        raise ConfigError(
            f"Dataset.take: expected row numbers in [{-n}, {n}),"
            f" got {rows.min()} to {rows.max()}; leave out the rows that do not exist"
        )
    return rows


def _test_count(n: int, test: float | int) -> int:
    """Return the number of test rows, at least 1 and at most n - 1."""
    if isinstance(test, Integral) and not isinstance(test, bool):
        count = operator.index(test)
    elif isinstance(test, Real) and not isinstance(test, bool) and 0 < test < 1:
        count = math.floor(n * test + 0.5)
    else:
        raise ConfigError(
            "Dataset.split: test must be a share in (0, 1) or a number of rows,"
            f" got {test!r}; write for example test=0.2"
        )
    if not 1 <= count < n:
        raise ConfigError(
            f"Dataset.split: test must leave at least one row on each side of {n} rows,"
            f" got test={test!r}, which is {count} rows; choose another size"
        )
    return count


def _stratified(dataset: Dataset, order: np.ndarray, count: int) -> np.ndarray:
    """Return the test rows: of each class the first ones in `order`."""
    y = dataset.y
    if y.ndim != 1 or y.dtype.kind not in "biu":
        raise DataError(
            "Dataset.split: stratify=True needs class numbers, integers of shape (n,),"
            f" got y {y.dtype} {y.shape}; pass stratify=False"
        )
    labels, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    _check_sizes(dataset, labels, sizes, count)
    by_class = order[np.argsort(codes[order], kind="stable")]
    classes = codes[by_class]
    rank = np.arange(len(y)) - (np.cumsum(sizes) - sizes)[classes]
    return by_class[rank < _apportion(sizes, count)[classes]]


def _check_sizes(
    dataset: Dataset, labels: np.ndarray, sizes: np.ndarray, count: int
) -> None:
    n, k = len(dataset), len(labels)
    if sizes.min() < 2:
        label = int(labels[sizes.argmin()])
        name = label if dataset.classes is None else dataset.classes[label]
        raise DataError(
            "Dataset.split: expected at least 2 rows of every class, one for each side,"
            f" got 1 of class {name!r}; add rows, drop the class or pass stratify=False"
        )
    if not k <= count <= n - k:
        raise DataError(
            f"Dataset.split: expected room for one row of each of {k} classes on each"
            f" side, got {n - count} and {count} rows; choose test from {k} to {n - k}"
            " rows or pass stratify=False"
        )


def _apportion(sizes: np.ndarray, count: int) -> np.ndarray:
    """Share `count` seats by largest remainder, from 1 to size - 1 for each class."""
    total = int(sizes.sum())
    seats = np.clip(sizes * count // total, 1, sizes - 1)
    while (missing := count - int(seats.sum())) != 0:
        owed = sizes * count - seats * total  # seats still owed, times total
        if missing > 0:
            seats[np.argmax(np.where(seats < sizes - 1, owed, -total * total))] += 1
        else:
            seats[np.argmin(np.where(seats > 1, owed, total * total))] -= 1
    return seats


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
