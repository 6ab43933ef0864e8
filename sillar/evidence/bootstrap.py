"""How far a metric may be off: intervals from resampling (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sillar.core.rng import Rng
from sillar.errors import ConfigError, ShapeError


class Interval(NamedTuple):
    """A value, and the bounds that hold it with the given confidence."""

    value: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(
    metric: Callable[[Any, Any], float],
    target: ArrayLike,
    predicted: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    groups: ArrayLike | None = None,
    stratify: bool = False,
    seed: int = 0,
) -> Interval:
    """Return metric(target, predicted) and its percentile interval.

    Targets and predictions are (n, ...). Rows are drawn with replacement; with
    `groups` (n,) whole groups are, because rows of one group say the same thing twice;
    stratified, each class of a target (n,) keeps its size, so that a rare class is in
    every draw. A draw for which the metric is nan is left out.
    """
    options = {"groups": groups, "stratify": stratify, "seed": seed}
    options |= {"confidence": confidence, "resamples": resamples}
    (found,) = bootstrap_each(
        lambda true, guess: [metric(true, guess)], target, predicted, **options
    )
    return found


def bootstrap_each(
    metrics: Callable[[Any, Any], Sequence[float]],
    target: ArrayLike,
    predicted: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    groups: ArrayLike | None = None,
    stratify: bool = False,
    seed: int = 0,
) -> list[Interval]:
    """Return what `bootstrap` does for several metrics that are computed together."""
    true, guess = np.asarray(target), np.asarray(predicted)
    _check(true, guess, confidence, resamples)
    if groups is not None and stratify:
        raise ConfigError("bootstrap: draw whole groups or by class, not both")
    draw = _draws(true, None if groups is None else np.asarray(groups), stratify)
    drawn = []
    for i in range(resamples):
        rows = draw(Rng(seed).split("bootstrap", i).generator())
        drawn.append(metrics(true[rows], guess[rows]))
    columns = zip(metrics(true, guess), np.transpose(drawn), strict=True)
    return [_interval(float(value), each, confidence) for value, each in columns]


def _interval(value: float, drawn: Any, confidence: float) -> Interval:
    known, tail = drawn[~np.isnan(drawn)], (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if known.size else (np.nan,) * 2
    return Interval(value, float(low), float(high), confidence)


Draw = Callable[[Any], NDArray[np.int64]]


def _draws(true: Any, groups: Any, stratify: bool) -> Draw:
    """Return the function that draws rows, given a generator."""
    n = len(true)
    if groups is None and not stratify:
        return lambda rng: rng.integers(0, n, n)
    keys = true if groups is None else groups
    if keys.shape != (n,):
        raise ShapeError(
            f"bootstrap: expected {'classes' if groups is None else 'groups'} of shape"
            f" ({n},), got {keys.shape}: give one for each row"
        )
    _, codes = np.unique(keys, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    if groups is None:
        return lambda rng: np.concatenate(
            [part[rng.integers(0, len(part), len(part))] for part in parts]
        )
    count = len(parts)
    return lambda rng: np.concatenate([parts[i] for i in rng.integers(0, count, count)])


def _check(true: Any, guess: Any, confidence: float, resamples: int) -> None:
    if true.ndim == 0 or len(true) == 0 or true.shape[:1] != guess.shape[:1]:
        raise ShapeError(
            "bootstrap: expected targets and predictions (n, ...) of one length >= 1,"
            f" got {true.shape} and {guess.shape}"
        )
    if not 0 < confidence < 1:
        raise ConfigError(
            f"bootstrap: confidence must be in (0, 1), got {confidence!r}: write 0.95"
        )
    if type(resamples) is not int or resamples < 1:
        raise ConfigError(
            f"bootstrap: resamples must be an integer >= 1, got {resamples!r}"
        )
