"""Cross-entropy over classes, and focal loss over classes or single logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from sillar.core.functional import log_softmax, one_hot, softmax
from sillar.core.ops import (
    astype,
    cross_entropy,
    cross_entropy_input,
    equal,
    exp,
    expm1,
    maximum,
    not_equal,
    reshape,
    sigmoid,
    softplus,
    where,
)
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.nn.examine import examine
from sillar.nn.losses import Loss


class CrossEntropy(Loss):
    """Cross-entropy of logits (..., c) with labels (...) or probabilities (..., c).

    `weights` multiplies each class, and the mean is then the weighted one.
    `label_smoothing` e gives every class e / c of each target (Szegedy et al. 2016).
    Targets equal to `ignore_index` count for nothing.
    """

    def __init__(
        self,
        *,
        weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(
                "CrossEntropy: label_smoothing must be in [0, 1], got"
                f" {label_smoothing!r:.40}"
            )
        self.weights = class_weights("CrossEntropy", weights)
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        super().__init__(reduction=reduction)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self._is_plain(prediction, target):
            return cross_entropy(prediction, target)
        shares = self._shares(prediction, target)
        log_p = where(equal(shares, 0), 0.0, log_softmax(prediction))  # 0 * -inf is nan
        return -(shares * log_p).sum(axis=-1)

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self._is_plain(prediction, target):
            return cross_entropy_input(1.0, prediction, target)
        shares = self._shares(prediction, target)
        return softmax(prediction) * shares.sum(axis=-1, keepdims=True) - shares

    def count(self, prediction: Tensor, target: Tensor) -> Any:
        """Return the summed weights of the targets that count."""
        if self.weights is None and self.ignore_index is None:
            return max(1, prediction.size // prediction.shape[-1])
        total = self._weighted(prediction, target).sum()
        return maximum(total, float(np.finfo(str(total.dtype)).tiny))

    def _is_plain(self, prediction: Tensor, target: Tensor) -> bool:
        """Say whether each target is one label, of which all count the same."""
        weighted = self.weights is not None or self.ignore_index is not None
        if weighted or self.label_smoothing or target.shape == prediction.shape:
            return False
        check_labels("CrossEntropy", prediction, target, None)
        return True

    def _shares(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return how much each class counts for each target, smoothed and weighted."""
        e, weights = self.label_smoothing, self.weights
        hits = self._hits(prediction, target)
        if e:
            known = hits.sum(axis=-1, keepdims=True)
            hits = hits * (1 - e) + known * (e / prediction.shape[-1])
        return hits if weights is None else hits * weights.astype(hits.dtype)

    def _weighted(self, prediction: Tensor, target: Tensor) -> Tensor:
        hits = self._hits(prediction, target)
        weights = self.weights
        return hits if weights is None else hits * weights.astype(hits.dtype)

    def _hits(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the targets as probabilities; zeros where they are ignored."""
        classes = prediction.shape[-1] if prediction.ndim else 0
        if self.weights is not None and len(self.weights) != classes:
            raise ShapeError(
                f"CrossEntropy: expected {classes} class weights for predictions"
                f" {prediction.shape}, got {len(self.weights)}"
            )
        if target.shape == prediction.shape and classes:
            return astype(target, dtype=prediction.dtype)
        check_labels("CrossEntropy", prediction, target, self.ignore_index)
        hits = one_hot(target, classes, prediction.dtype)
        if self.ignore_index is None:
            return hits
        kept = not_equal(target, self.ignore_index)
        return where(reshape(kept, shape=(*target.shape, 1)), hits, 0.0)


class Focal(Loss):
    """Focal loss, alpha (1 - p_t)^gamma * -log(p_t) (Lin et al. 2017, eq. 5).

    For targets in {0, 1} of the prediction's shape, p is the sigmoid of the logit and
    `alpha` the weight of the positive class, 1 - alpha of the other. For labels (...)
    and logits (..., c), p is the softmax and `alpha` one weight for each class.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        *,
        alpha: float | Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        if not gamma >= 0:
            raise ConfigError(f"Focal: gamma must be >= 0, got {gamma!r:.40}")
        if isinstance(alpha, int | float) and not 0 <= alpha <= 1:
            raise ConfigError(f"Focal: alpha must be in [0, 1], got {alpha!r:.40}")
        self.gamma = gamma
        self.alpha = alpha
        super().__init__(reduction=reduction)

    def count(self, prediction: Tensor, target: Tensor) -> Any:
        """Return the number of targets."""
        return max(1, target.size)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        if target.shape == prediction.shape:
            signs, weights = self._binary(prediction, target)
            z = signs * prediction
            return weights * exp(softplus(z) * -self.gamma) * softplus(-z)
        hits, weights = self._classes(prediction, target)
        log_p = where(equal(hits, 0), 0.0, log_softmax(prediction)).sum(axis=-1)
        return weights * self._easiness(log_p) * -log_p

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        if target.shape == prediction.shape:
            signs, weights = self._binary(prediction, target)
            z = signs * prediction
            pull = sigmoid(z) * softplus(-z) * self.gamma + sigmoid(-z)
            return -(signs * weights * exp(softplus(z) * -self.gamma) * pull)
        hits, weights = self._classes(prediction, target)
        log_p = where(equal(hits, 0), 0.0, log_softmax(prediction))
        log_p = log_p.sum(axis=-1, keepdims=True)
        p = exp(log_p)
        easiness = self._easiness(log_p)
        slope = easiness * (p * log_p * self.gamma / self._rest(log_p) - 1.0)
        weights = weights.reshape(log_p.shape) if self.alpha is not None else weights
        return weights * slope * (hits - softmax(prediction))

    def _rest(self, log_p: Tensor) -> Tensor:
        """Return 1 - p, kept above 0."""
        return maximum(-expm1(log_p), float(np.finfo(str(log_p.dtype)).tiny))

    def _easiness(self, log_p: Tensor) -> Tensor:
        return self._rest(log_p) ** self.gamma

    def _binary(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Any]:
        t = self._checked(prediction, target)
        examine(_check_binary, target)
        if self.alpha is None:
            return t * 2.0 - 1.0, 1.0
        if not isinstance(self.alpha, int | float):
            raise ConfigError("Focal: alpha must be one number for binary targets")
        return t * 2.0 - 1.0, t * self.alpha + (1.0 - t) * (1 - self.alpha)

    def _classes(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Any]:
        check_labels("Focal", prediction, target, None)
        hits = one_hot(target, prediction.shape[-1], prediction.dtype)
        if self.alpha is None:
            return hits, 1.0
        weights = class_weights("Focal", self.alpha)
        if weights is None or len(weights) != prediction.shape[-1]:
            raise ShapeError(
                f"Focal: expected {prediction.shape[-1]} weights alpha, one for each"
                f" class, got {self.alpha!r:.40}"
            )
        return hits, (hits * weights.astype(hits.dtype)).sum(axis=-1)


def _check_binary(target: Any) -> None:
    if not np.all((target == 0) | (target == 1)):
        raise DataError("Focal: targets must be 0 or 1")


def class_weights(owner: str, weights: Any) -> Any:
    """Return the weights as a vector of numbers >= 0, or None."""
    if weights is None:
        return None
    vector = np.asarray(weights, "float64")
    if vector.ndim != 1 or not np.all(np.isfinite(vector)) or np.any(vector < 0):
        raise ConfigError(
            f"{owner}: class weights must be finite numbers >= 0, one for each class,"
            f" got {weights!r:.60}"
        )
    return vector


def check_labels(owner: str, prediction: Tensor, target: Tensor, ignored: Any) -> None:
    """Raise unless target holds one label of 0, ..., c - 1 for each prediction."""
    if prediction.ndim < 1 or target.shape != prediction.shape[:-1]:
        raise ShapeError(
            f"{owner}: expected labels {prediction.shape[:-1]} for predictions"
            f" {prediction.shape}, got {target.shape}"
        )
    if str(target.dtype)[:3] not in ("int", "uin"):
        raise DataError(
            f"{owner}: expected integer labels, got {target.dtype}: convert them, as in"
            " y.astype('int64')"
        )
    examine(partial(_check_range, owner, prediction.shape[-1], ignored), target)


def _check_range(owner: str, classes: int, ignored: Any, labels: Any) -> None:
    plain = ignored is None and labels.dtype == np.int64 and labels.size
    if plain and labels.view(np.uint64).max() < classes:  # there -1 is the largest
        return
    wrong = (labels < 0) | (labels >= classes)
    if ignored is not None:
        wrong &= labels != ignored
    if wrong.any():
        raise DataError(
            f"{owner}: labels must be in [0, {classes}), got {labels[wrong].flat[0]}:"
            " the model's last layer needs one output for each class"
        )
