"""What a model must beat: the commonest class, one rule, logistic regression.

Where targets are values: their mean, and linear regression.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sillar.data import Dataset
from sillar.errors import DataError
from sillar.nn import CrossEntropy, Dense, Sequential
from sillar.optim import Adam, CosineAnnealing
from sillar.train.evaluate import predict
from sillar.train.fit import fit
from sillar.train.metrics import (
    accuracy,
    f1,
    mean_absolute_error,
    mean_squared_error,
    pr_auc,
    r2,
    roc_auc,
)

WIDEST = 4096  # columns
LARGEST = 4_000_000  # numbers that a baseline is fitted on, and scores
CUTS = 256  # thresholds that one rule tries for each column
MOST = 10_000  # classes
STEPS = 600  # of logistic regression


class Baseline(NamedTuple):
    """A trivial model: its name, and its scores (n, classes) or values of test rows."""

    name: str
    scores: NDArray[np.float64]
    note: str = ""

    def metrics(self, target: Any) -> dict[str, float]:
        """Return the metrics that are printed beside the model's."""
        if np.asarray(target).dtype.kind == "f":
            return {
                "mse": mean_squared_error(target, self.scores),
                "mae": mean_absolute_error(target, self.scores),
                "r2": r2(target, self.scores),
            }
        labels = np.argmax(self.scores, axis=1)
        found = {
            "accuracy": accuracy(target, labels),
            "f1_macro": float(f1(target, labels)),
        }
        if len(np.unique(target)) == self.scores.shape[1]:
            found |= {
                "roc_auc": roc_auc(target, self.scores),
                "pr_auc": pr_auc(target, self.scores),
            }
        return found


def baselines(
    train: Dataset, test: Dataset, *, names: Sequence[str] = (), seed: int = 0
) -> list[Baseline]:
    """Return the commonest class, one rule (Holte 1993) and logistic regression.

    All are fitted on `train` alone and score the rows of `test`; inputs (n, ...) of any
    shape are taken as columns. They are fitted on `few(train)`, so that the work has a
    bound. Targets that are values have their mean and linear regression. `names` are
    those of the columns, for the notes.
    """
    train = few(train)
    x, other = _columns(train), _columns(test)
    y = train.y.reshape(len(x), -1)
    if y.dtype.kind == "f":
        return [_mean(y, test.y.shape), _linear(x, y, other, test.y.shape)]
    y = train.y.reshape(-1)
    if y.dtype.kind not in "biu" or y.size != len(x):
        raise DataError(
            "baselines: expected one class number or value for each row, got y"
            f" {train.y.dtype} {train.y.shape}"
        )
    y, labels = y.astype(np.int64), test.y.astype(np.int64)
    least, most = min(y.min(), labels.min()), max(y.max(), labels.max())
    if least < 0 or most >= MOST:
        raise DataError(
            f"baselines: expected class numbers in [0, {MOST}), got {least} to {most}:"
            " number the classes from 0"
        )
    classes = max(2, int(most) + 1)
    return [
        _majority(y, len(other), classes),
        _one_rule(x, y, other, classes, names),
        Baseline(
            "logistic regression", logistic_regression(x, y, other, classes, seed)
        ),
    ]


def are_for(dataset: Dataset) -> bool:
    """Say whether baselines can be fitted: rows of numbers with one target each."""
    width = math.prod(dataset.x.shape[1:])
    single = dataset.y.size == len(dataset)
    return 0 < width <= WIDEST and len(dataset) > 0 and single


def few(dataset: Dataset) -> Dataset:
    """Return all rows, or of a large data set every k-th one."""
    most = max(1, LARGEST // max(1, math.prod(dataset.x.shape[1:])))
    step = -(-len(dataset) // most)
    return dataset if step < 2 else dataset.take(np.arange(0, len(dataset), step))


def headline(positives: float) -> str:
    """Return the metric to name first, given the share of the rarest class.

    Below 5 % accuracy says little: who always answers "no" has 95 %.
    """
    return "pr_auc" if positives < 0.05 else "accuracy"


def _columns(dataset: Dataset) -> Any:
    if len(dataset) == 0:
        raise DataError(f"baselines: the data set {dataset.name!r} has no examples")
    return np.asarray(dataset.x).reshape(len(dataset), -1).astype(np.float64)


def _majority(y: Any, n: int, classes: int) -> Baseline:
    shares = np.bincount(y, minlength=classes) / len(y)
    return Baseline("majority", np.tile(shares, (n, 1)), f"class {shares.argmax()}")


def _mean(y: Any, shape: tuple[int, ...]) -> Baseline:
    mean = np.broadcast_to(y.mean(axis=0), (shape[0], y.shape[1])).reshape(shape)
    return Baseline("mean", mean.astype(np.float64), "the mean of the targets")


def _linear(x: Any, y: Any, other: Any, shape: tuple[int, ...]) -> Baseline:
    """Solve the least squares with a penalty of 1e-6, which columns alike need."""
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1.0
    rows, mean = (x - centre) / spread, y.mean(axis=0)
    square = rows.T @ rows + 1e-6 * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(square, rows.T @ (y - mean))
    values = np.clip((other - centre) / spread, -10, 10) @ weights + mean
    return Baseline("linear regression", values.reshape(shape), "least squares")


def _one_rule(
    x: Any, y: Any, other: Any, classes: int, names: Sequence[str]
) -> Baseline:
    """Cut the one column at the one place that separates the classes best."""
    total = np.bincount(y, minlength=classes)
    best, rule = -1.0, (0, -np.inf)
    hits = np.eye(classes)[y]
    for column in range(x.shape[1]):
        cuts = np.unique(np.quantile(x[:, column], np.linspace(0, 1, CUTS)))
        places = np.searchsorted(cuts, x[:, column])  # cut i: x <= cuts[i]
        below = np.zeros((len(cuts) + 1, classes))
        np.add.at(below, places, hits)
        below = np.cumsum(below, axis=0)[:-1]
        right = below.max(axis=1) + (total - below).max(axis=1)
        if right.max() > best:
            best, rule = right.max(), (column, cuts[right.argmax()])
    column, cut = rule
    sides = [x[:, column] <= cut, x[:, column] > cut]
    shares = [np.bincount(y[side], minlength=classes) + 1e-9 for side in sides]
    scores = np.where(
        (other[:, column] <= cut)[:, None],
        shares[0] / shares[0].sum(),
        shares[1] / shares[1].sum(),
    )
    name = names[column] if len(names) == x.shape[1] else f"column {column}"
    return Baseline("one rule", scores, f"{name} <= {cut:.6g}")


def logistic_regression(x: Any, y: Any, other: Any, classes: int, seed: int) -> Any:
    """Return probabilities (m, classes) of `other` (m, k), fitted on x (n, k), y."""
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1.0

    def scaled(rows: Any) -> Any:
        return np.clip((rows - centre) / spread, -10, 10).astype(np.float32)

    model = Sequential(Dense(x.shape[1], classes))
    size = min(256, len(x))
    epochs = max(1, STEPS * size // len(x))
    rate = CosineAnnealing(0.05, steps=epochs * -(-len(x) // size))
    fit(
        model,
        CrossEntropy(),
        Adam(rate),
        Dataset(scaled(x), y.astype(np.int64)),
        epochs=epochs,
        batch_size=size,
        seed=seed,
        callbacks=(),
    )
    logits = predict(model, scaled(other)).astype(np.float64)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
