"""Losses: the loss of each element, and its derivative, written side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from sillar.core.functional import clip
from sillar.core.ops import absolute, astype, relu, sigmoid, sign, softplus
from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.describe import label
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.nn.examine import examine

REDUCTIONS = ("mean", "sum", "none")


class Loss(ABC):
    """A loss: `elements` and its closed-form derivative `slopes` for the prediction.

    `compute` reduces the elements to their mean, their sum, or not at all;
    `gradient` is the derivative of what `compute` returns (summed for "none").
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        if reduction not in REDUCTIONS:
            raise ConfigError(
                f"{type(self).__name__}: reduction must be one of {REDUCTIONS}, got"
                f" {reduction!r:.40}"
            )
        self.reduction = reduction

    @abstractmethod
    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each element."""

    @abstractmethod
    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the derivative of the summed elements for the prediction."""

    def count(self, prediction: Tensor, target: Tensor) -> Any:
        """Return what the sum of the elements is divided by for their mean."""
        return max(1, self._checked(prediction, target).size)

    def compute(self, prediction: Any, target: Any) -> Tensor:
        """Return the loss."""
        prediction, target = lift(prediction), lift(target)
        elements = self.elements(prediction, target)
        if self.reduction == "none":
            return elements
        if self.reduction == "sum":
            return elements.sum()
        return elements.sum() / self.count(prediction, target)

    def gradient(self, prediction: Any, target: Any) -> Tensor:
        """Return the derivative of the loss for the prediction, in closed form."""
        prediction, target = lift(prediction), lift(target)
        slopes = self.slopes(prediction, target)
        mean = self.reduction == "mean"
        return slopes / self.count(prediction, target) if mean else slopes

    __call__ = compute

    def __repr__(self) -> str:
        return label(self)

    def _checked(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the target in the prediction's type, if the shapes are equal."""
        if prediction.shape != target.shape:
            raise ShapeError(
                f"{type(self).__name__}: prediction and target must have equal shapes,"
                f" got {prediction.shape} and {target.shape}"
            )
        return astype(target, dtype=prediction.dtype)


class MSE(Loss):
    """Mean squared error, (p - t)^2."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        distance = prediction - self._checked(prediction, target)
        return distance * distance

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - self._checked(prediction, target)) * 2.0


class MAE(Loss):
    """Mean absolute error, |p - t|; the derivative at 0 is 0."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return absolute(prediction - self._checked(prediction, target))

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        return sign(prediction - self._checked(prediction, target))


class Huber(Loss):
    """Half the squared error up to `delta`, linear beyond it (Huber 1964).

    As from inside, the second derivative at `delta` is 1.
    """

    def __init__(self, delta: float = 1.0, *, reduction: str = "mean") -> None:
        if not delta > 0:
            raise ConfigError(f"Huber: delta must be > 0, got {delta!r:.40}")
        self.delta = delta
        super().__init__(reduction=reduction)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        distance = prediction - self._checked(prediction, target)
        near = clip(distance, -self.delta, self.delta)
        return near * (distance - near * 0.5)

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        distance = prediction - self._checked(prediction, target)
        return clip(distance, -self.delta, self.delta)


class Hinge(Loss):
    """max(0, margin - t * p) for scores p and targets t of -1 or +1; 0 at the kink."""

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        self.margin = margin
        super().__init__(reduction=reduction)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return relu(self.margin - self._signs(prediction, target) * prediction)

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        signs = self._signs(prediction, target)
        inside = (self.margin - signs * prediction) > 0
        return -signs * astype(inside, dtype=prediction.dtype)

    def _signs(self, prediction: Tensor, target: Tensor) -> Tensor:
        examine(_check_signs, target)
        return self._checked(prediction, target)


def _check_signs(target: Any) -> None:
    if not np.all(np.abs(target) == 1):
        raise DataError("Hinge: targets must be -1 or +1: write 2 * y - 1 for 0/1")


class BinaryCrossEntropy(Loss):
    """Cross-entropy of logits x with targets t in [0, 1]: softplus(x) - t * x.

    `positive_weight` multiplies the loss of the positive class.
    """

    def __init__(
        self, *, positive_weight: float = 1.0, reduction: str = "mean"
    ) -> None:
        if not positive_weight > 0:
            raise ConfigError(
                "BinaryCrossEntropy: positive_weight must be > 0, got"
                f" {positive_weight!r:.40}"
            )
        self.positive_weight = positive_weight
        super().__init__(reduction=reduction)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        t = self._checked(prediction, target)
        positive = t * softplus(-prediction) * self.positive_weight
        return positive + (1.0 - t) * softplus(prediction)

    def slopes(self, prediction: Tensor, target: Tensor) -> Tensor:
        t = self._checked(prediction, target)
        positive = t * sigmoid(-prediction) * -self.positive_weight
        return positive + (1.0 - t) * sigmoid(prediction)
