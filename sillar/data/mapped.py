"""NPY files that are mapped into memory, for arrays larger than it."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import numpy as np

from sillar.data.npy import open_array
from sillar.data.source import open_source
from sillar.data.stored import StoredArray
from sillar.errors import ShapeError

_PIECE = 1 << 26  # bytes of the file that may stay in memory
_FAULT = 1 << 21  # bytes that the system may bring for a row that is far from the last


def open_npy(path: str | os.PathLike[str]) -> StoredArray:
    """Return the array of an NPY file of numbers, its rows read when asked for.

    At most 64 MiB of the file are in memory at a time, and one row. The file must stay
    as it is while it is open.
    """
    return MappedNpy(os.fspath(path))


class MappedNpy(StoredArray):
    """The rows of an NPY file in C order."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        with open_source(path, "open_npy") as source:
            dtype, fortran, self.shape = open_array(source)
            offset = source.position
            size = math.prod(self.shape) * dtype.itemsize
            if not self.shape or dtype.kind not in "biufc":
                raise source.error(
                    f"expected numbers with one row per example, got {dtype}"
                    f" {self.shape}; read it with read_npy"
                )
            if fortran and self.ndim > 1:
                raise ShapeError(
                    f"open_npy: {path!r}: expected rows that lie in one piece, got"
                    " Fortran order; save numpy.ascontiguousarray(x)"
                )
            if source.size - offset != size:
                raise source.error(
                    f"expected {size:,} bytes after the header, got"
                    f" {source.size - offset:,}; the file is damaged: fetch it again"
                )
            self._map = None
            if size:
                self._map = mmap.mmap(
                    source.stream.fileno(), 0, access=mmap.ACCESS_READ
                )
        self._bool, self.dtype = dtype.kind == "b", dtype.newbyteorder("=")
        stored = np.dtype("u1") if self._bool else dtype
        data = np.empty(0, stored)
        if self._map is not None:
            data = np.frombuffer(self._map, stored, math.prod(self.shape), offset)
        self._rows = data.reshape(self.shape)
        self._touched, self._last = 0, -1

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedNpy, (self.path,)

    def row(self, number: int) -> np.ndarray:
        row = self._rows[number]
        found = np.asarray(row != 0 if self._bool else row.astype(self.dtype))
        self._touched += row.nbytes + (_FAULT if number != self._last + 1 else 0)
        self._last = number
        if self._touched > _PIECE:
            self._forget()
        return found

    def _forget(self) -> None:
        """Give the memory back to the system; the file is read again where needed."""
        self._touched = 0
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
