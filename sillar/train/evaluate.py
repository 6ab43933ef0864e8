"""Predictions and metrics of a model on a data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.core.tape import no_grad
from sillar.core.tensor import Tensor
from sillar.data import Dataset
from sillar.errors import ConfigError, ShapeError
from sillar.nn import Layer, Loss
from sillar.train import metrics as m


def model_dtype(model: Layer) -> Any:
    """Return the floating-point type that the model computes in."""
    parameters = model.parameters()
    return parameters.vector.dtype if parameters else np.dtype("float32")


def as_input(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Return floating-point inputs in the model's type, others as they are."""
    return x.astype(dtype, copy=False) if x.dtype.kind == "f" else x


def predict(model: Layer, x: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Return the model's outputs for inputs x (n, ...), as an array (n, ...)."""
    if batch_size < 1:
        raise ConfigError(f"predict: batch_size must be >= 1, got {batch_size!r}")
    dtype = model_dtype(model)
    starts = range(0, max(1, len(x)), batch_size)
    with no_grad():
        parts = [model(as_input(x[i : i + batch_size], dtype)).numpy() for i in starts]
    return np.concatenate(parts)


def evaluate(
    model: Layer, dataset: Dataset, *, loss: Loss | None = None, batch_size: int = 256
) -> dict[str, Any]:
    """Return the metrics of the model on a data set, and the loss if one is given.

    For class labels: everything `metrics.classification_report` has, from the outputs
    as scores. For other targets: squared and absolute error, and r2.
    """
    if len(dataset) == 0:
        raise ShapeError("evaluate: the data set has no examples")
    outputs = predict(model, dataset.x, batch_size=batch_size)
    found: dict[str, Any] = {}
    if loss is not None:
        found["loss"] = mean_loss(loss, outputs, dataset.y)
    if is_classification(dataset):
        return found | m.classification_report(dataset.y, outputs, dataset.classes)
    return found | {
        "mse": m.mean_squared_error(dataset.y, outputs),
        "mae": m.mean_absolute_error(dataset.y, outputs),
        "r2": m.r2(dataset.y, outputs),
    }


def mean_loss(loss: Loss, outputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the loss of all outputs at once."""
    with no_grad():
        return float(loss.compute(Tensor(outputs), as_input(targets, outputs.dtype)))


def is_classification(dataset: Dataset) -> bool:
    """Say whether the targets are class labels."""
    return dataset.classes is not None or dataset.y.dtype.kind in "iub"
