"""Which data types a tensor may hold, and how plain Python data becomes an array."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from sillar.backends import Array, backend_of, is_array
from sillar.errors import DtypeError, ShapeError

SCALARS = (bool, int, float)  # weak, as NumPy's numbers: they take the type they meet
DEFAULT = "float32"  # what Python floats become when a tensor is made of them


def is_floating(array: Array) -> bool:
    """Say whether `array` holds floating-point numbers."""
    dtype = getattr(array.dtype, "kind", None)
    return dtype == "f" if dtype is not None else "float" in str(array.dtype)


def is_boolean(array: Array) -> bool:
    """Say whether `array` holds truths."""
    return "bool" in str(array.dtype)


def as_array(data: Any, dtype: Any = None) -> Array:
    """Return `data` as an array: arrays as they are, Python data through NumPy.

    Python floats become float32, Python integers int64, unless `dtype` is given.
    """
    if hasattr(data, "__array_namespace__") or is_array(data):
        array = data
    else:
        array = _from_python(data)
        if dtype is None and array.dtype == np.float64:
            dtype = DEFAULT
    if isinstance(array, np.ndarray | np.generic) and array.dtype.kind not in "fiub":
        raise DtypeError(
            f"Tensor: expected real numbers or booleans, got dtype {array.dtype}:"
            " encode text and objects as numbers first"
        )
    if dtype is None:
        return array
    return backend_of(array).astype(array, dtype, copy=False)


def as_number(value: Any) -> Any:
    """Return any real number, NumPy's too, as Python's own; other things pass."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _from_python(data: Any) -> Any:
    if hasattr(data, "__array__"):
        return np.asarray(data)
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ShapeError(
            f"Tensor: expected numbers or nested lists of equal length, got"
            f" {data!r:.60} ({error}): make the rows equally long"
        ) from None


def describe(value: Any) -> str:
    """Return dtype and shape as text, as in `float32 (3, 4)`, for error messages."""
    if isinstance(value, SCALARS):
        return f"the scalar {value!r}"
    return f"{value.dtype} {tuple(value.shape)}"
