"""Whether the parts of a data set are apart: no row, group or future in two of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sillar.errors import ConfigError, DataError, ShapeError
from sillar.evidence.folds import without_gaps

SHOWN = 5


def check_splits(
    parts: Mapping[str, ArrayLike],
    *,
    groups: Mapping[str, ArrayLike] | None = None,
    times: Mapping[str, ArrayLike] | None = None,
    allowed: float = 0.0,
) -> dict[str, float]:
    """Raise DataError where parts share rows or groups, or train on the future.

    `parts` are the inputs by name, in the order of their use: "train" first. `groups`
    and `times` have one key per row for the same names. `allowed` is the share of a
    later part that may be copies of an earlier one. Returns that share for every pair,
    as "test in train".
    """
    arrays = {name: np.asarray(part) for name, part in parts.items()}
    if len(arrays) < 2:
        raise ConfigError(f"check_splits: expected two parts or more, got {[*arrays]}")
    arrays = _alike(arrays)
    keys = {name: _row_keys(name, array) for name, array in arrays.items()}
    shares, faults = _copies(keys, allowed)
    if groups is not None:
        faults += _straddling(_one_for_each_row("groups", groups, arrays))
    if times is not None:
        faults += _from_the_future(_one_for_each_row("times", times, arrays))
    if faults:
        raise DataError(
            f"check_splits: expected parts that are apart, got {'; '.join(faults)}:"
            " split by group or by time, or drop the copies"
        )
    return shares


def _alike(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return text with room for the longest word of all parts."""
    if any(array.dtype.kind != "U" for array in arrays.values()):
        return arrays
    common = np.result_type(*(array.dtype for array in arrays.values()))
    return {name: array.astype(common) for name, array in arrays.items()}


def _row_keys(name: str, array: Any) -> Any:
    """Return each row as bytes that are equal where all its values are."""
    if array.ndim == 0 or len(array) == 0:
        raise ShapeError(
            f"check_splits: expected rows in {name}, got an array {array.shape}"
        )
    flat = np.ascontiguousarray(array.reshape(len(array), -1))
    if flat.dtype.kind == "f":
        flat = flat + 0.0  # -0.0 equals 0.0
    if flat.dtype.kind == "O" or flat.shape[1] == 0:
        raise ConfigError(
            f"check_splits: expected numbers or text in {name}, got {flat.dtype}"
            f" {array.shape}"
        )
    return flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1])))[:, 0]


def _copies(keys: Mapping[str, Any], allowed: float) -> tuple[dict[str, float], Any]:
    shares, faults = {}, []
    for (early, known), (late, rows) in combinations(keys.items(), 2):
        if known.dtype != rows.dtype:
            raise ShapeError(
                f"check_splits: expected rows of one kind, got {known.dtype.itemsize}"
                f" bytes in {early} and {rows.dtype.itemsize} in {late}"
            )
        seen = set(known.tolist())
        copied = np.flatnonzero([row in seen for row in rows.tolist()])
        shares[f"{late} in {early}"] = len(copied) / len(rows)
        if len(copied) / len(rows) > allowed:
            faults.append(
                f"{len(copied)} of {len(rows)} rows of {late} that are in {early} too,"
                f" as row {copied[0]}"
            )
    return shares, faults


def _one_for_each_row(
    what: str, given: Mapping[str, ArrayLike], arrays: Mapping[str, Any]
) -> dict[str, Any]:
    found = {name: np.asarray(key) for name, key in given.items()}
    for name, key in found.items():
        without_gaps("check_splits", f"{what} of {name}", key)
    shapes = {name: key.shape for name, key in found.items()}
    expected = {name: (len(array),) for name, array in arrays.items()}
    if shapes != expected:
        raise ShapeError(f"check_splits: expected {what} {expected}, got {shapes}")
    return found


def _straddling(groups: Mapping[str, Any]) -> list[str]:
    faults = []
    for (early, one), (late, other) in combinations(groups.items(), 2):
        both = np.intersect1d(one, other)
        if len(both):
            names = ", ".join(map(str, both[:SHOWN])) + (", ..." * (len(both) > SHOWN))
            faults.append(f"{len(both)} groups in both {early} and {late}: {names}")
    return faults


def _from_the_future(times: Mapping[str, Any]) -> list[str]:
    (first, trained), *later = times.items()
    faults = []
    for name, tested in later:
        ahead = int((trained >= tested.min()).sum())
        if ahead:
            faults.append(
                f"{ahead} rows of {first} not before the first of {name},"
                f" {tested.min()}"
            )
    return faults
