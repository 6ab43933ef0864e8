"""What a model must beat: the commonest class, one rule, logistic regression."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sillar.data import Dataset
from sillar.errors import DataError
from sillar.nn import CrossEntropy, Dense, Sequential
from sillar.optim import Adam, CosineAnnealing
from sillar.train.evaluate import predict
from sillar.train.fit import fit
from sillar.train.metrics import accuracy, f1, pr_auc, roc_auc

CUTS = 256  # thresholds that one rule tries for each column
STEPS = 600  # of logistic regression


class Baseline(NamedTuple):
    """A trivial model: its name, and its scores (n, classes) of the test rows."""

    name: str
    scores: NDArray[np.float64]
    note: str = ""

    def metrics(self, target: Any) -> dict[str, float]:
        """Return the metrics that are printed beside the model's."""
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


def baselines(train: Dataset, test: Dataset, *, seed: int = 0) -> list[Baseline]:
    """Return the commonest class, one rule (Holte 1993) and logistic regression.

    All are fitted on `train` alone and scored on `test`; inputs (n, ...) of any shape
    are taken as columns.
    """
    x, other = _columns(train), _columns(test)
    y = train.y.reshape(-1)
    if y.dtype.kind not in "biu" or y.size != len(x):
        raise DataError(
            "baselines: expected one class number for each row, got y"
            f" {train.y.dtype} {train.y.shape}"
        )
    classes = max(2, int(max(y.max(), test.y.max())) + 1)
    return [
        _majority(y, len(other), classes),
        _one_rule(x, y, other, classes),
        _logistic(x, y, other, classes, seed),
    ]


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


def _one_rule(x: Any, y: Any, other: Any, classes: int) -> Baseline:
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
    return Baseline("one rule", scores, f"column {column} <= {cut:.6g}")


def _logistic(x: Any, y: Any, other: Any, classes: int, seed: int) -> Baseline:
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
    return Baseline("logistic regression", raised / raised.sum(axis=1, keepdims=True))
