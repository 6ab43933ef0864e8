"""What a test says of a classifier, as plain numbers for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sillar.errors import ShapeError
from sillar.evidence.bootstrap import Interval, bootstrap, bootstrap_each
from sillar.train import metrics as m

WORST = 12  # mistakes that are shown
RESAMPLES = 300


class Tested(NamedTuple):
    """Labels (n,) and probabilities (n, classes) of one part of the data."""

    target: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def guesses(self) -> NDArray[np.int64]:
        """Return the likeliest class of each example."""
        return np.argmax(self.probabilities, axis=1)


def tested(target: ArrayLike, scores: ArrayLike, logits: bool | None) -> Tested:
    """Return labels and probabilities from a model's scores (n, c) or (n, 1)."""
    true, s = np.asarray(target).reshape(-1), np.asarray(scores, np.float64)
    if s.ndim != 2 or len(s) != len(true):
        raise ShapeError(
            f"tested: expected scores (n, classes) for {len(true)} labels, got"
            f" {s.shape}"
        )
    if s.shape[1] == 1:
        if logits or (logits is None and ((s < 0) | (s > 1)).any()):
            s = np.concatenate([np.zeros_like(s), s], axis=1)
            logits = True
        else:
            s, logits = np.concatenate([1 - s, s], axis=1), False
    if logits is None:
        logits = bool((s < 0).any() or np.abs(s.sum(axis=1) - 1).max() > 1e-2)
    if logits:
        s = np.exp(s - s.max(axis=1, keepdims=True))
    return Tested(true.astype(np.int64), s / s.sum(axis=1, keepdims=True))


def intervals(part: Tested, *, seed: int = 0) -> dict[str, Interval]:
    """Return accuracy, macro scores and areas with 95 % intervals, by class drawn."""
    guess = part.guesses
    n = part.probabilities.shape[1]
    found = {}
    for name in ("accuracy", "precision", "recall", "f1"):
        metric = getattr(m, name)
        found[name] = bootstrap(
            metric, part.target, guess, resamples=RESAMPLES, stratify=True, seed=seed
        )
    if len(np.unique(part.target)) == n:
        for name in ("roc_auc", "pr_auc"):
            metric = getattr(m, name)
            found[name] = bootstrap(
                metric,
                part.target,
                part.probabilities,
                resamples=RESAMPLES,
                stratify=True,
                seed=seed,
            )
    return found


def class_intervals(part: Tested, *, seed: int = 0) -> list[dict[str, Interval]]:
    """Return precision, recall and F1 of each class with 95 % intervals."""
    n = part.probabilities.shape[1]

    def scores(true: Any, guess: Any) -> Any:
        pairs = np.bincount(true * n + guess, minlength=n * n).reshape(n, n)
        hits, said, there = pairs.diagonal(), pairs.sum(axis=0), pairs.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.stack([hits / said, hits / there, 2 * hits / (said + there)])

    found = bootstrap_each(
        lambda true, guess: scores(true, guess).T.reshape(-1),
        *(part.target, part.guesses),
        **{"resamples": RESAMPLES, "stratify": True, "seed": seed},
    )
    names = "precision", "recall", "f1"
    each = [found[3 * c : 3 * c + 3] for c in range(n)]
    return [dict(zip(names, three, strict=True)) for three in each]


def with_intervals(
    row: Mapping[str, Any], found: Mapping[str, Interval]
) -> dict[str, Any]:
    """Return a row of a table with the intervals beside the values they are of."""
    whole: dict[str, Any] = {}
    for name, value in row.items():
        whole[name] = value
        if name in found:
            _, low, high, _ = found[name]
            bounds = "" if np.isnan(low) else f"{low:.4f} to {high:.4f}"
            whole[f"{name}, 95 %"] = bounds
    return whole


def value_intervals(
    target: ArrayLike, predicted: ArrayLike, *, seed: int = 0
) -> dict[str, Interval]:
    """Return errors and R² of predicted values (n, ...) with 95 % intervals."""
    metrics = {
        "mse": m.mean_squared_error,
        "mae": m.mean_absolute_error,
        "r2": m.r2,
    }
    return {
        name: bootstrap(metric, target, predicted, resamples=RESAMPLES, seed=seed)
        for name, metric in metrics.items()
    }


def worst(part: Tested, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the mistakes with the least belief in the truth, worst first."""
    belief = part.probabilities[np.arange(len(part.target)), part.target]
    guess = part.guesses
    wrong = np.flatnonzero(guess != part.target)
    wrong = wrong[np.argsort(belief[wrong], kind="stable")][:WORST]
    return [
        {
            "row": int(row),
            "truth": classes[part.target[row]],
            "guess": classes[guess[row]],
            "belief": float(belief[row]),
            "certainty": float(part.probabilities[row, guess[row]]),
        }
        for row in wrong
    ]
