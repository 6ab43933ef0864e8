"""Indices out of range: refused where they are known, NaN within a program."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def taken(x: Any, index: Any) -> Any:
    """Return x[index]; what is out of range is an error, or NaN in a program.

    (JAX itself would take the nearest.) Of whole numbers it is the least there is.
    """
    check(index, x.shape)
    parts = index if isinstance(index, tuple) else (index,)
    within = any(isinstance(part, jax.core.Tracer) for part in parts)
    return x.at[index].get(mode="fill") if within else x[index]


def check(index: Any, shape: tuple[int, ...]) -> None:
    """Raise IndexError as NumPy does if a known number of an index is out of range."""
    parts = index if isinstance(index, tuple) else (index,)
    taking = [part for part in parts if part is not None and part is not Ellipsis]
    axis = 0
    for part in parts:
        if part is None:
            continue
        if part is Ellipsis:
            axis += len(shape) - sum(map(_axes, taking))
            continue
        if not isinstance(part, slice | jax.core.Tracer) and axis < len(shape):
            _check_numbers(np.asarray(part), axis, shape[axis])
        axis += _axes(part)


def _axes(part: Any) -> int:
    """Return how many axes a part of an index takes; a mask has its own."""
    return part.ndim if getattr(part, "dtype", None) == np.dtype(bool) else 1


def _check_numbers(numbers: np.ndarray, axis: int, n: int) -> None:
    if numbers.dtype.kind not in "iu" or not numbers.size:
        return
    for number in (int(numbers.min()), int(numbers.max())):
        if not -n <= number < n:
            raise IndexError(
                f"index {number} is out of bounds for axis {axis} with size {n}"
            )
