"""Handwritten digits: a small set that comes with the package, and MNIST."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sillar.data.dataset import Dataset
from sillar.data.idx import read_idx
from sillar.errors import DataError

_FILES = Path(__file__).with_name("files")
_DIGITS = tuple("0123456789")
_MNIST = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def digits() -> Dataset:
    """Return 1,797 handwritten digits: x (1797, 8, 8, 1) float32 in [0, 1], y 0 to 9.

    The test part of Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998),
    CC BY 4.0; `files/README.md` names source and changes.
    """
    images = read_idx(_FILES / "digits-images-idx3-ubyte.gz")
    labels = read_idx(_FILES / "digits-labels-idx1-ubyte.gz")
    return _dataset(images, labels, 16, "digits")


def mnist(folder: str | os.PathLike[str], train: bool = True) -> Dataset:
    """Return MNIST from its IDX files: x (n, 28, 28, 1) float32 in [0, 1], y 0 to 9.

    `folder` holds the four files, plain or packed; LeCun et al. 1998.
    """
    images, labels = map(read_idx, _mnist_files(Path(folder), train))
    if not _are_digits(images, labels):
        raise DataError(
            f"mnist: {str(folder)!r}: expected uint8 images (n, 28, 28) and as many"
            f" uint8 labels from 0 to 9, got {images.dtype} {images.shape} and"
            f" {labels.dtype} {labels.shape} up to {labels.max(initial=0)};"
            " fetch the files again"
        )
    return _dataset(images, labels, 255, "mnist-train" if train else "mnist-test")


def _are_digits(images: np.ndarray, labels: np.ndarray) -> bool:
    return (
        images.dtype == labels.dtype == np.uint8
        and images.shape == (*labels.shape[:1], 28, 28)
        and labels.ndim == 1
        and labels.max(initial=0) <= 9
    )


def _dataset(images: np.ndarray, labels: np.ndarray, white: int, name: str) -> Dataset:
    x = np.divide(images, white, dtype=np.float32)[..., np.newaxis]
    return Dataset(x, labels.astype(np.int64), _DIGITS, name)


def _mnist_files(folder: Path, train: bool) -> list[Path]:
    wanted = _MNIST[:2] if train else _MNIST[2:]
    found = [_plain_or_packed(folder, name) for name in wanted]
    missing = [name for name, path in zip(wanted, found, strict=True) if path is None]
    if missing:
        raise DataError(
            f"mnist: {str(folder)!r}: expected a folder with {', '.join(_MNIST)}"
            f" (each plain or .gz), got none of {', '.join(missing)};"
            " download the four files of MNIST into this folder"
        )
    return [path for path in found if path is not None]


def _plain_or_packed(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.exists()), None)
