"""StoredArray: rows that stay where they are until somebody asks for them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from sillar.core.rng import Rng


class StoredArray(ABC):
    """An array (n, ...) that is read row by row; `Dataset` takes it as x.

    A class of your own sets `shape` and `dtype` and says how one row is read. Workers
    get a pickled copy of the object, so it should hold paths and not data.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def row(self, number: int) -> np.ndarray:
        """Return row `number`, from 0 to n - 1, of shape shape[1:]."""

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes that all rows would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        return self.take(numbers(rows, len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all rows in memory."""
        return self.take(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype} {self.shape})"

    def order(self, rng: Rng, rows: np.ndarray) -> np.ndarray:
        """Return places in `rows` in random order, one that suits how rows are kept."""
        return rng.permutation(len(rows))

    def expect(self, rows: np.ndarray) -> None:
        """Hear which rows an epoch will ask for, in order; who reads ahead uses it."""

    def take(self, rows: np.ndarray, axis: int = 0) -> np.ndarray:
        """Return the rows as an array in memory (len(rows), ...)."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, number in enumerate(rows):
            found[place] = self.row(int(number))
        return found

    def chosen(self, rows: slice | Sequence[int] | np.ndarray) -> StoredArray:
        """Return some of the rows, as an array that is stored too."""
        return Chosen(self, numbers(rows, len(self)))


class Chosen(StoredArray):
    """Some rows of a stored array, 8 bytes of memory for each."""

    def __init__(self, array: StoredArray, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def row(self, number: int) -> np.ndarray:
        return self.array.row(int(self.rows[number]))

    def take(self, rows: np.ndarray, axis: int = 0) -> np.ndarray:
        return self.array.take(self.rows[rows])

    def chosen(self, rows: slice | Sequence[int] | np.ndarray) -> StoredArray:
        return Chosen(self.array, self.rows[rows])

    def order(self, rng: Rng, rows: np.ndarray) -> np.ndarray:
        return self.array.order(rng, self.rows[rows])

    def expect(self, rows: np.ndarray) -> None:
        self.array.expect(self.rows[rows])


def numbers(rows: slice | Sequence[int] | np.ndarray, n: int) -> np.ndarray:
    """Return the row numbers in [0, n) that a slice, numbers or a mask choose."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    return np.arange(n)[np.asarray(rows)]
