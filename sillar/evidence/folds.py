"""Cuts of a data set into folds, each of which is tested on once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sillar.core.rng import Rng
from sillar.errors import ConfigError, DataError, ShapeError

Rows = NDArray[np.int64]


def k_folds(
    n: int,
    folds: int = 5,
    *,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    times: ArrayLike | None = None,
    seed: int = 0,
) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rows to train on, rows to test on) of n rows, `folds` times, ascending.

    Plain: rows are dealt at random, drawn by `seed`.
    `stratify` (n,): classes, each of which is dealt evenly.
    `groups` (n,): no group is in two folds; the largest are dealt first.
    `times` (n,): each fold is tested on what is later than all that it is trained on;
    what is at the same time stays together, and the oldest part is only trained on.
    """
    keys = {"stratify": stratify, "groups": groups, "times": times}
    given = {name: np.asarray(key) for name, key in keys.items() if key is not None}
    if len(given) > 1:
        raise ConfigError(
            f"k_folds: expected one of stratify, groups and times, got {list(given)}"
        )
    if type(folds) is not int or not 2 <= folds <= n:
        raise ConfigError(
            f"k_folds: folds must be an integer from 2 to the {n} rows, got {folds!r}"
        )
    for name, key in given.items():
        if key.shape != (n,):
            raise ShapeError(f"k_folds: expected {name} ({n},), got {key.shape}")
        without_gaps("k_folds", name, key)
    if times is not None:
        yield from _by_time(given["times"], folds)
        return
    order = Rng(seed).split("folds").permutation(n)
    if stratify is not None:
        fold = _by_class(given["stratify"], folds, order)
    elif groups is not None:
        fold = _by_group(given["groups"], folds, order)
    else:
        fold = np.empty(n, np.int64)
        fold[order] = np.arange(n) % folds
    for k in range(folds):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def without_gaps(operation: str, what: str, keys: Any) -> None:
    """Raise unless no key is missing: nobody knows when or whose such a row is."""
    missing = keys != keys if keys.dtype.kind in "fcmMO" else np.zeros(0, bool)
    if np.any(missing):
        raise DataError(
            f"{operation}: expected {what} that are known, got"
            f" {int(np.sum(missing))} missing, as in row"
            f" {int(np.flatnonzero(missing)[0])}: leave these rows out"
        )


def _by_class(classes: Any, folds: int, order: Rows) -> Rows:
    labels, codes, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    if sizes.min() < folds:
        raise DataError(
            f"k_folds: expected at least {folds} rows of every class, got"
            f" {sizes.min()} of {labels[sizes.argmin()]!r}: take fewer folds"
        )
    by_class = order[np.argsort(codes[order], kind="stable")]
    fold = np.empty(len(order), np.int64)
    fold[by_class] = np.arange(len(order)) % folds  # dealt on from class to class
    return fold


def _by_group(groups: Any, folds: int, order: Rows) -> Rows:
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise DataError(
            f"k_folds: expected at least {folds} groups, got {len(names)}: take fewer"
            " folds"
        )
    drawn = np.empty(len(names), np.int64)  # equal sizes in random order
    drawn[codes[order[::-1]]] = np.arange(len(order))[::-1]
    load, home = np.zeros(folds, np.int64), np.empty(len(names), np.int64)
    for group in np.lexsort((drawn, -sizes)):
        home[group] = np.argmin(load)
        load[home[group]] += sizes[group]
    return home[codes]


def _by_time(times: Any, folds: int) -> Iterator[tuple[Rows, Rows]]:
    moments, codes, sizes = np.unique(times, return_inverse=True, return_counts=True)
    if len(moments) < folds + 1:
        raise DataError(
            f"k_folds: {folds} folds by time need {folds + 1} different times, got"
            f" {len(moments)}: take fewer folds"
        )
    before = np.cumsum(sizes) - sizes  # rows earlier than each moment
    ideal = len(codes) * np.arange(1, folds + 1) // (folds + 1)
    cuts = np.searchsorted(before, ideal)
    for k in range(folds):  # at least one moment in each part
        least = cuts[k - 1] + 1 if k else 1
        cuts[k] = min(max(cuts[k], least), len(moments) - folds + k)
    ends = [*cuts[1:], len(moments)]
    for start, end in zip(cuts, ends, strict=True):
        yield (
            np.flatnonzero(codes < start),
            np.flatnonzero((start <= codes) & (codes < end)),
        )
