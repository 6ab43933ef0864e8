"""Reader: rows of a data set, written into the arrays of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sillar.data.images import Augment
from sillar.data.stored import StoredArray
from sillar.errors import DataError, ShapeError


class Reader:
    """Fills batches with the rows of x and y, augmented if `augment` is given.

    Where rows are read one by one, `mark` is told which one comes next.
    """

    def __init__(
        self,
        x: np.ndarray | StoredArray,
        y: np.ndarray,
        augment: Augment | None = None,
        mark: Callable[[int], Any] | None = None,
    ) -> None:
        self.x, self.y, self.augment, self.mark = x, y, augment, mark

    def new(self, epoch: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the batch of these rows in memory of its own."""
        x = np.empty((len(rows), *self.x.shape[1:]), self.x.dtype)
        y = np.empty((len(rows), *self.y.shape[1:]), self.y.dtype)
        self.fill(epoch, rows, x, y)
        return x, y

    def fill(self, epoch: int, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """Write the batch of these rows into x (len(rows), ...) and y."""
        self.y.take(rows, axis=0, out=y, mode="clip")
        if isinstance(self.x, np.ndarray) and self.augment is None:
            if self.mark is not None and len(rows):
                self.mark(int(rows[0]))
            self.x.take(rows, axis=0, out=x, mode="clip")
            return
        for place, number in enumerate(map(int, rows)):
            if self.mark is not None:
                self.mark(number)
            try:
                x[place] = self._example(epoch, number)
            except MemoryError:
                raise
            except Exception as fault:
                raise DataError(
                    f"DataLoader: row {number} cannot be read: {type(fault).__name__}:"
                    f" {fault!s:.500}; correct the row, or leave it out"
                ) from fault

    def _example(self, epoch: int, row: int) -> np.ndarray:
        stored = isinstance(self.x, StoredArray)
        example = self.x.row(row) if stored else self.x[row]
        if self.augment is not None:
            example = self.augment(example, epoch, row)
        if np.shape(example) != self.x.shape[1:]:
            raise ShapeError(
                f"expected an example {self.x.shape[1:]}, got {np.shape(example)}:"
                " all rows have one shape"
            )
        return example
