"""Examples for `sillar predict`: read from a file, and brought to the model's shape."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sillar.data import read_csv, read_idx, read_npy, read_npz
from sillar.errors import DataError, ShapeError


def read_examples(path: Path) -> np.ndarray:
    """Return the array in an .npy, .npz, .csv or IDX file."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        arrays = read_npz(path)
        if "x" not in arrays and len(arrays) != 1:
            raise DataError(
                f"predict: {str(path)!r} has the arrays {', '.join(arrays)!r:.120}:"
                " name the one with the examples x"
            )
        return arrays["x"] if "x" in arrays else next(iter(arrays.values()))
    return read_csv(path) if suffix in (".csv", ".txt") else read_idx(path)


def arrange(x: np.ndarray, notes: dict[str, Any]) -> np.ndarray:
    """Return examples (n, ...) as the model was trained on them.

    Flat rows are reshaped, a missing axis of one channel or for a single example is
    added, and whole numbers above 1 are pixels, which are divided by the scale.
    """
    if x.dtype.kind not in "biuf":
        raise DataError(f"predict: expected real numbers, got {x.dtype}")
    shape = notes.get("input")
    if shape is not None:
        x = _shaped(x, tuple(shape))
    if not x.ndim or not len(x):
        raise DataError("predict: the file holds no examples")
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"predict: example {int(bad.argmax())} has NaN or infinite values: correct"
            " it or leave it out"
        )
    scale = notes.get("scale")
    if scale is not None and x.max() > 1 and np.all(x == np.floor(x)):
        x = np.divide(x, scale, dtype=np.float32)
    return x


def _shaped(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape[1:] == shape and x.ndim:
        return x
    if x.shape == shape:
        return x[np.newaxis]
    size = math.prod(shape)
    flat = x.ndim == 2 and x.shape[1] == size
    if flat or (shape[-1:] == (1,) and x.shape[1:] == shape[:-1]):
        return x.reshape(len(x), *shape)
    if shape[-1:] == (1,) and x.shape == shape[:-1]:
        return x.reshape(1, *shape)
    sizes = ", ".join(map(str, shape))
    rows = f", or rows of {size} numbers" if len(shape) > 1 else ""
    raise ShapeError(
        f"predict: the model expects examples of shape (n, {sizes}){rows}; the file has"
        f" {x.shape}"
    )
