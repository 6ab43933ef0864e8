"""What metrics read: labels, scores and values, checked and in one layout."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sillar.errors import ConfigError, DataError, DtypeError, ShapeError


def label_pair(
    operation: str, target: ArrayLike, predicted: ArrayLike, n_classes: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return both label vectors, and n with every label in [0, n)."""
    true = _labels(operation, "target", target)
    guess = _labels(operation, "predicted", predicted)
    if true.size != guess.size:
        raise ShapeError(
            f"{operation}: {true.size} targets but {guess.size} predictions; pass one"
            " prediction per target"
        )
    top = int(max(true.max(), guess.max()))
    n = top + 1 if n_classes is None else operator.index(n_classes)
    if n < 1:
        raise ConfigError(f"{operation}: n_classes must be at least 1, got {n}")
    if top >= n:
        raise DataError(
            f"{operation}: labels must be in [0, {n}) for {n} classes, got {top};"
            " check the number of classes"
        )
    return true, guess, n


def labels_for(
    operation: str, target: ArrayLike, columns: NDArray[np.float64], n: int
) -> NDArray[np.int64]:
    """Return targets in [0, n), one per row of `columns`."""
    true, _, _ = label_pair(operation, target, np.zeros(len(columns), np.int64), n)
    return true


def score_matrix(operation: str, scores: ArrayLike) -> NDArray[np.float64]:
    """Return finite scores as float64, (n, 1) or (n, C)."""
    columns = _finite(operation, "scores", scores)
    if columns.ndim == 1:
        columns = columns[:, None]
    if columns.ndim != 2:
        raise ShapeError(
            f"{operation}: expected scores (n,) or (n, classes), got {columns.shape}"
        )
    return columns


def value_pair(
    operation: str, target: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return finite targets and predictions of one shape; (n, 1) counts as (n,)."""
    true = np.atleast_1d(_without_column(_finite(operation, "target", target)))
    guess = np.atleast_1d(_without_column(_finite(operation, "predicted", predicted)))
    if true.shape != guess.shape:
        raise ShapeError(
            f"{operation}: target {true.shape} and predicted {guess.shape} differ in"
            " shape; pass one prediction per target"
        )
    return true, guess


def _labels(operation: str, name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return class indices as int64, shape (n,)."""
    array = _without_column(np.asarray(values))
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"{operation}: expected class indices as {name}, got {array.dtype}; encode"
            " class names as 0, 1, ..."
        )
    if array.ndim != 1:
        raise ShapeError(
            f"{operation}: expected {name} (n,) of class indices, got {array.shape};"
            " take argmax over the last axis first"
        )
    _check_some(operation, name, array)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
    if array.dtype.kind != "b":
        wrong = array[~((array >= 0) & (array < 2**31) & (array == np.floor(array)))]
        if wrong.size:
            raise DataError(
                f"{operation}: {name} must be class indices 0, 1, ..., got"
                f" {wrong[0]}; encode classes as whole numbers from 0"
            )
    return array.astype(np.int64)


def _finite(operation: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"{operation}: expected real numbers as {name}, got {array.dtype}"
        )
    _check_some(operation, name, array)
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise DataError(
            f"{operation}: {name} has {bad} NaN or infinite values of {array.size};"
            " find where they come from before measuring"
        )
    return array.astype(np.float64)


def _without_column(array: NDArray[Any]) -> NDArray[Any]:
    """Return (n, 1) as (n,), anything else unchanged."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _check_some(operation: str, name: str, array: NDArray[Any]) -> None:
    if array.size == 0:
        raise DataError(
            f"{operation}: {name} is empty, shape {array.shape}; pass at least one"
            " example"
        )
