"""Examples for `sillar predict`, read from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sillar.data import read_csv, read_idx, read_npy, read_npz
from sillar.errors import DataError


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
