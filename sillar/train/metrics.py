"""Metrics on arrays of labels and scores.

Labels are class indices 0, 1, ..., shape (n,) or (n, 1). Scores are real numbers that
grow with belief in a class. Every function equals its counterpart in scikit-learn,
except where its docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sillar.errors import ConfigError, ShapeError
from sillar.train.metric_inputs import label_pair, labels_for, score_matrix, value_pair
from sillar.train.ranking import Ranked, pr_area, rank, roc_area

Average = Literal["macro", "micro", "weighted", "binary"] | None

_AVERAGES = ("macro", "micro", "weighted", "binary", None)


def confusion_matrix(
    target: ArrayLike, predicted: ArrayLike, *, n_classes: int | None = None
) -> NDArray[np.int64]:
    """Count the examples of each class (row) by predicted class (column).

    Shape (n_classes, n_classes); by default up to the largest label that occurs.
    """
    true, guess, n = label_pair("confusion_matrix", target, predicted, n_classes)
    return np.bincount(true * n + guess, minlength=n * n).reshape(n, n)


def accuracy(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of examples whose predicted label is the target."""
    true, guess, _ = label_pair("accuracy", target, predicted, None)
    return float(np.mean(true == guess))


def precision(
    target: ArrayLike,
    predicted: ArrayLike,
    *,
    average: Average = "macro",
    zero_division: float = 0.0,
    n_classes: int | None = None,
) -> float | NDArray[np.float64]:
    """Return which share of the examples put into a class belong to it.

    Per class: hits / predicted. `average` joins the classes:
    "macro": mean over the classes that occur in targets or predictions;
    "weighted": the same, weighted by how often the class is the target;
    "micro": all hits / all predictions;
    "binary": class 1 alone, labels 0 and 1 only;
    None: no joining, an array (n_classes,) indexed by class.
    Where the divisor is 0 (a class never predicted), the ratio is `zero_division`:
    0.0, 1.0, or nan, which leaves the class out of means.
    """
    counts = _class_counts("precision", target, predicted, n_classes)
    return _joined("precision", counts, average, zero_division)


def recall(
    target: ArrayLike,
    predicted: ArrayLike,
    *,
    average: Average = "macro",
    zero_division: float = 0.0,
    n_classes: int | None = None,
) -> float | NDArray[np.float64]:
    """Return which share of the examples of a class are put into it.

    Per class: hits / targets; zero when a class is never the target, unless
    `zero_division` says otherwise. `average` is explained at `precision`.
    """
    counts = _class_counts("recall", target, predicted, n_classes)
    return _joined("recall", counts, average, zero_division)


def f1(
    target: ArrayLike,
    predicted: ArrayLike,
    *,
    average: Average = "macro",
    zero_division: float = 0.0,
    n_classes: int | None = None,
) -> float | NDArray[np.float64]:
    """Return the harmonic mean of precision and recall.

    Per class: 2 hits / (predicted + targets); `zero_division` only when a class is
    neither predicted nor the target. `average` is explained at `precision`.
    """
    counts = _class_counts("f1", target, predicted, n_classes)
    return _joined("f1", counts, average, zero_division)


def roc_curve(
    target: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return false-positive rate, true-positive rate and threshold, from (0, 0) on.

    Point k takes scores >= thresholds[k] as class 1; thresholds[0] is inf. A point
    amid equal steps is left out. A rate whose class has no example is nan.
    """
    ranked = rank(*_binary("roc_curve", target, scores))
    bend = np.diff(ranked.false, 2) != 0
    bend |= np.diff(ranked.true, 2) != 0
    kept = np.ones(ranked.true.size, bool)
    kept[1:-1] = bend
    false = np.concatenate([[0], ranked.false[kept]])
    true = np.concatenate([[0], ranked.true[kept]])
    thresholds = np.concatenate([[np.inf], ranked.thresholds[kept]])
    return _ratio(false, false[-1], np.nan), _ratio(true, true[-1], np.nan), thresholds


def precision_recall_curve(
    target: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return precision, recall and threshold, thresholds increasing.

    Point k takes scores >= thresholds[k] as class 1; one last point (1, 0) has no
    threshold. Recall without a positive example is nan (scikit-learn: 1).
    """
    ranked = rank(*_binary("precision_recall_curve", target, scores))
    hit_share = ranked.true / (ranked.true + ranked.false)
    found = _ratio(ranked.true, ranked.true[-1], np.nan)
    return (
        np.concatenate([hit_share[::-1], [1.0]]),
        np.concatenate([found[::-1], [0.0]]),
        ranked.thresholds[::-1],
    )


def roc_auc(target: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve; nan when undefined.

    It is the chance that a random positive outranks a random negative, ties counting
    half. Scores (n,) or (n, 1) rank class 1; (n, 2) rank it by the last column;
    (n, C) give the mean over classes, each against the rest. Columns are compared
    between rows: give probabilities there, not logits. A class without an example, or
    with nothing else, makes it nan.
    """
    return _one_versus_rest("roc_auc", roc_area, target, scores)


def pr_auc(target: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision: sum of precision times growth in recall.

    Scores are read as by `roc_auc`. A class without an example makes it nan
    (scikit-learn: 0).
    """
    return _one_versus_rest("pr_auc", pr_area, target, scores)


def classification_report(
    target: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    logits: bool | None = None,
) -> dict[str, Any]:
    """Return every classification metric of `scores` as one JSON-able dictionary.

    Scores (n, C) predict their largest column; (n,) or (n, 1) predict class 1 above
    0 as logits, above 1/2 as probabilities. Unless `logits` says which, scores in
    [0, 1] (and with rows that sum to 1) are probabilities: a guess that can fail for
    small logits in one column. `roc_auc` and `pr_auc` are None when some class is
    absent from the targets; `undefined` then says why.
    """
    belief, guess = _beliefs(scores, logits)
    n = max(2, belief.shape[1])
    true, guess, n = label_pair("classification_report", target, guess, n)
    matrix = confusion_matrix(true, guess, n_classes=n)
    counts = _Counts(np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1))
    names = _class_names(classes, n)
    report: dict[str, Any] = {
        "samples": true.size,
        "accuracy": accuracy(true, guess),
    }
    columns: dict[str, list[Any]] = {"class": names}
    for measure in ("precision", "recall", "f1"):
        for average in ("micro", "macro", "weighted"):
            report[f"{measure}_{average}"] = _joined(measure, counts, average, 0.0)
        columns[measure] = np.asarray(_joined(measure, counts, None, 0.0)).tolist()
    columns["support"] = counts.target.tolist()
    report |= _areas(true, belief, names, counts.target)
    report["per_class"] = [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    report["confusion_matrix"] = matrix.tolist()
    return report


def mean_squared_error(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean of (predicted - target)^2 over all elements."""
    true, guess = value_pair("mean_squared_error", target, predicted)
    return float(np.mean((guess - true) ** 2))


def mean_absolute_error(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean of |predicted - target| over all elements."""
    true, guess = value_pair("mean_absolute_error", target, predicted)
    return float(np.mean(np.abs(guess - true)))


def r2(target: ArrayLike, predicted: ArrayLike) -> float:
    """Return 1 - (squared error) / (squared deviation from the mean target).

    The mean over output columns. A constant column counts 1 if predicted without
    error, else 0. One example alone has no deviation: nan.
    """
    true, guess = value_pair("r2", target, predicted)
    if len(true) < 2:
        return math.nan
    true, guess = true.reshape(len(true), -1), guess.reshape(len(guess), -1)
    error = np.sum((guess - true) ** 2, axis=0)
    offset = true - true[0]  # exactly zero where constant
    spread = np.sum((offset - offset.mean(axis=0)) ** 2, axis=0)
    unexplained = np.where(error > 0, 1.0, 0.0)
    np.divide(error, spread, out=unexplained, where=spread > 0)
    return float(np.mean(1.0 - unexplained))


class _Counts(NamedTuple):
    """Examples per class: rightly predicted, predicted, and in the targets."""

    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    target: NDArray[np.int64]


def _class_counts(
    operation: str, target: ArrayLike, predicted: ArrayLike, n_classes: int | None
) -> _Counts:
    true, guess, n = label_pair(operation, target, predicted, n_classes)
    labels = (true[true == guess], guess, true)
    return _Counts(*(np.bincount(part, minlength=n) for part in labels))


def _joined(
    measure: str, counts: _Counts, average: Average, zero_division: float
) -> float | NDArray[np.float64]:
    """Return precision, recall or f1, joined over the classes as `average` says."""
    _check_averaging(measure, counts, average, zero_division)
    part, whole = {
        "precision": (counts.hits, counts.predicted),
        "recall": (counts.hits, counts.target),
        "f1": (2 * counts.hits, counts.predicted + counts.target),
    }[measure]
    if average == "micro":
        return float(_ratio(part.sum(), whole.sum(), zero_division))
    ratios = _ratio(part, whole, zero_division)
    if average is None:
        return ratios
    if average == "binary":
        return float(ratios[1]) if ratios.size == 2 else float(zero_division)
    kept = (counts.target + counts.predicted > 0) & ~np.isnan(ratios)
    ratios, weights = ratios[kept], counts.target[kept]
    if average == "macro" or not weights.any():
        weights = np.ones_like(weights)
    return float(_ratio(np.sum(ratios * weights), np.sum(weights), np.nan))


def _check_averaging(
    measure: str, counts: _Counts, average: Average, zero_division: float
) -> None:
    if average not in _AVERAGES:
        raise ConfigError(
            f"{measure}: average must be one of {_AVERAGES}, got {average!r}"
        )
    if average == "binary" and counts.target.size > 2:
        raise ConfigError(
            f"{measure}: average='binary' is for 2 classes, got"
            f" {counts.target.size}; use 'macro', 'micro', 'weighted' or None"
        )
    is_nan = zero_division != zero_division
    if not (is_nan or zero_division in (0.0, 1.0)):
        raise ConfigError(
            f"{measure}: zero_division must be 0.0, 1.0 or nan, got {zero_division!r}"
        )


def _ratio(part: Any, whole: Any, when_zero: float) -> NDArray[np.float64]:
    """Return part / whole, and `when_zero` where whole is 0."""
    out = np.full(np.shape(part), when_zero, np.float64)
    np.divide(part, whole, out=out, where=np.not_equal(whole, 0))
    return out


def _one_versus_rest(
    operation: str,
    area: Callable[[Ranked], float],
    target: ArrayLike,
    scores: ArrayLike,
) -> float:
    """Return the mean area over classes; of class 1 alone when there are two."""
    columns = score_matrix(operation, scores)
    n = max(2, columns.shape[1])
    true = labels_for(operation, target, columns, n)
    if n == 2:
        return area(rank(true == 1, columns[:, -1]))
    return float(np.mean([area(rank(true == c, columns[:, c])) for c in range(n)]))


def _binary(
    operation: str, target: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which examples are of class 1, and their scores (n,)."""
    columns = score_matrix(operation, scores)
    if columns.shape[1] != 1:
        raise ShapeError(
            f"{operation}: expected one score per example, (n,) or (n, 1), got"
            f" {columns.shape}; pass one class against the rest"
        )
    return labels_for(operation, target, columns, 2) == 1, columns[:, 0]


def _beliefs(
    scores: ArrayLike, logits: bool | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return scores (n, 1) or probabilities (n, C) to rank by, and predicted labels."""
    columns = score_matrix("classification_report", scores)
    single = columns.shape[1] == 1
    if logits is None:
        logits = not np.all((columns >= 0) & (columns <= 1))
        if not (logits or single):
            logits = bool(np.any(np.abs(columns.sum(axis=1) - 1) > 1e-2))
    if single:
        return columns, (columns[:, 0] > (0.0 if logits else 0.5)).astype(np.int64)
    guess = np.argmax(columns, axis=1)
    if logits:
        with np.errstate(over="ignore", under="ignore"):  # exp(-inf) is 0, as it should
            columns = np.exp(columns - columns.max(axis=1, keepdims=True))
        columns /= columns.sum(axis=1, keepdims=True)
    return columns, guess


def _class_names(classes: Sequence[str] | None, n: int) -> list[str]:
    names = [str(c) for c in (range(n) if classes is None else classes)]
    if len(names) != n:
        raise ConfigError(
            f"classification_report: expected {n} class names for these scores, got"
            f" {len(names)}; name every class in label order"
        )
    return names


def _areas(
    target: NDArray[np.int64],
    belief: NDArray[np.float64],
    names: list[str],
    support: NDArray[np.int64],
) -> dict[str, Any]:
    """Return both areas, or None and the reason where a class has no example."""
    absent = [name for name, count in zip(names, support, strict=True) if not count]
    if not absent:
        areas = {"roc_auc": roc_auc(target, belief), "pr_auc": pr_auc(target, belief)}
        return {**areas, "undefined": {}}
    reason = f"no example of class {', '.join(absent)} among the targets"
    undefined = dict.fromkeys(("roc_auc", "pr_auc"), reason)
    return {"roc_auc": None, "pr_auc": None, "undefined": undefined}
