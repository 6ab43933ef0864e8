"""Sums over the first or the last axes, as products with a vector of ones.

NumPy adds along the first axis one row after another, and along a short last axis one
row at a time. BLAS does either at the speed of memory, and with smaller errors.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sillar.backends.base import Array

ROWS = 512  # as many terms at once; sums of sums keep the error of long ones small
_add_reduce: Any = np.add.reduce
FLOATS = (np.dtype("float32"), np.dtype("float64"))


class _Form(NamedTuple):
    """An array as a matrix, of which every column (or every row) is summed."""

    rows: int
    columns: int
    down: bool
    out: tuple[int, ...]


def sum(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Return the sum over `axis` (None: all), kept with size 1 if `keepdims`."""
    form = _form(x.shape, axis, keepdims) if x.dtype in FLOATS else None
    if form is None or not x.flags.c_contiguous:
        return np.sum(x, axis=axis, keepdims=keepdims)
    return _product(x, form, np.empty(form.out, x.dtype))


def sum_into(x: Array, axis: Any, keepdims: bool, out: Array) -> Array:
    """Write the sum over `axis` into `out`, which is contiguous."""
    form = _form(x.shape, axis, keepdims) if x.dtype in FLOATS else None
    if form is None or not (x.flags.c_contiguous and out.flags.c_contiguous):
        return _add_reduce(x, axis, None, out, keepdims)
    return _product(x, form, out)


@lru_cache(512)
def _form(shape: tuple[int, ...], axis: Any, keepdims: bool) -> _Form | None:
    """Return the form of a sum that is a product; None if NumPy does it as well."""
    rank = len(shape)
    axes = range(rank) if axis is None else (axis,) if isinstance(axis, int) else axis
    gone = {a % rank for a in axes if -rank <= a < rank}
    if len(gone) != len(axes):
        return None  # for NumPy's own error
    first, last = set(range(len(gone))), set(range(rank - len(gone), rank))
    if not gone or len(gone) == rank or 0 in shape or gone not in (first, last):
        return None
    summed = prod(shape[a] for a in gone)
    left = prod(shape) // summed
    out = tuple(1 if a in gone else n for a, n in enumerate(shape))
    if not keepdims:
        out = tuple(n for a, n in enumerate(shape) if a not in gone)
    if gone == first:
        return _Form(summed, left, True, out)
    return _Form(left, summed, False, out) if summed <= ROWS else None


def _product(x: Array, form: _Form, out: Array) -> Array:
    matrix = x.reshape(form.rows, form.columns)
    if form.down:
        _sum_down(matrix, out.reshape(1, form.columns))
    else:
        ones = _ones(form.columns, x.dtype)
        np.matmul(matrix, ones.reshape(-1, 1), out.reshape(form.rows, 1))
    return out


def _sum_down(x: Array, out: Array) -> None:
    """Write the sum of the rows of x (n, c) into out (1, c)."""
    n, c = x.shape
    if n <= ROWS:
        np.matmul(_ones(n, x.dtype), x, out)
        return
    whole, rest = divmod(n, ROWS)
    sums = np.empty((whole + (rest > 0), 1, c), x.dtype)
    end = whole * ROWS
    blocks = x[:end].reshape(whole, ROWS, c)
    np.matmul(_ones(ROWS, x.dtype), blocks, sums[:whole])
    if rest:
        np.matmul(_ones(rest, x.dtype), x[end:], sums[whole])
    _sum_down(sums[:, 0], out)


@lru_cache(64)
def _all_ones(dtype: Any) -> Any:
    return np.ones((1, ROWS), dtype)


def _ones(n: int, dtype: Any) -> Any:
    return _all_ones(dtype)[:, :n]
