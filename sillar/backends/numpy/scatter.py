"""Sums at indices: the gradient of picking, of an embedding's rows above all."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.backends.base import Array


def scatter_add(values: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Return zeros of `shape` with `values` added at `index`, in their order."""
    out = np.zeros(shape, values.dtype)
    arrays = [part for part in index if isinstance(part, np.ndarray)]
    if not arrays:
        out[index] = values
    elif len(index) == 1 and arrays[0].dtype.kind in "iu":
        _add_rows(values, arrays[0], out)
    else:
        np.add.at(out, index, values)  # an index may come more than once
    return out


def _add_rows(values: Array, rows: Array, out: Array) -> None:
    """Add values (..., width) to the rows of out (n, width), as one flat index.

    NumPy has a fast loop for one index of one axis alone.
    """
    width = out[:1].size
    starts = rows.astype(np.intp).reshape(-1, 1) * width
    places = (starts + np.arange(width)).reshape(-1)
    np.add.at(out.reshape(-1), places, values.reshape(-1))
