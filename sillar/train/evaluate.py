"""Predictions and metrics of a model on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sillar.core.tape import no_grad
from sillar.core.tensor import Tensor, wrap
from sillar.data import Dataset, StoredArray
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.nn import CrossEntropy, Embedding, Layer, Loss, Sequential, Sigmoid, Softmax
from sillar.nn.architecture import CONTAINERS, LAYERS
from sillar.optim.checks import integer
from sillar.train import metrics as m

Convert = Callable[[np.ndarray], np.ndarray]


def predict(model: Layer, x: Any, *, batch_size: int = 256) -> np.ndarray:
    """Return the model's outputs for inputs x (n, ...), as an array (n, ...)."""
    step = integer("predict: batch_size", batch_size)
    x = x if isinstance(x, StoredArray) else np.asarray(x)
    if x.ndim == 0:
        raise ShapeError("predict: expected inputs (n, ...), got a single number")
    convert = converter(model)
    with no_grad():
        parts = [
            model(convert(x[i : i + step])).numpy()
            for i in range(0, max(1, len(x)), step)
        ]
    return np.concatenate(parts)


def evaluate(
    model: Layer, dataset: Dataset, *, loss: Loss | None = None, batch_size: int = 256
) -> dict[str, Any]:
    """Return the metrics of the model on a data set, and the loss if one is given.

    For class labels: everything `metrics.classification_report` has. The outputs count
    as logits, unless the model ends in `Sigmoid` or `Softmax` or, ending in a layer of
    your own, has outputs that look like probabilities. For other targets: squared and
    absolute error, and r2.
    """
    if len(dataset) == 0:
        raise ConfigError("evaluate: the data set has no examples: give at least one")
    outputs = predict(model, dataset.x, batch_size=batch_size)
    found: dict[str, Any] = {}
    if loss is not None:
        found["loss"] = mean_loss(loss, outputs, dataset.y)
    scores = scores_of(outputs, dataset.y, class_count(dataset))
    if scores is not None:
        labels, scores = counted(dataset.y.reshape(-1), scores, dataset.ignored)
        logits = gives_logits(model)
        return found | m.classification_report(
            labels, scores, dataset.classes, logits=logits
        )
    if is_classification(dataset) and (
        dataset.classes is not None or outputs.size != dataset.y.size
    ):
        raise DataError(
            f"evaluate: labels {dataset.y.min()} to {dataset.y.max()} do not fit"
            f" outputs {outputs.shape}: number the classes from 0, and give the last"
            " layer one output for each"
        )
    return found | {
        "mse": m.mean_squared_error(dataset.y, outputs),
        "mae": m.mean_absolute_error(dataset.y, outputs),
        "r2": m.r2(dataset.y, outputs),
    }


def compute_loss(loss: Loss, outputs: Any, targets: np.ndarray) -> Tensor:
    """Return the loss; targets (n,) may stand for (n, 1) where there is one output."""
    return loss(outputs, shaped_as(loss, outputs, targets))


def shaped_as(loss: Loss, outputs: Any, targets: Any) -> Any:
    """Return targets (n,) as (n, 1) where there is one output.

    Not for `CrossEntropy`, whose labels are (n,) and whose classes are columns.
    """
    single = outputs.shape == (*targets.shape, 1)
    if single and not isinstance(loss, CrossEntropy):
        return targets[..., np.newaxis]
    return targets


def mean_loss(loss: Loss, outputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the loss of all outputs at once."""
    with no_grad():
        return float(compute_loss(loss, outputs, targets))


def is_classification(dataset: Dataset) -> bool:
    """Say whether the targets may be class labels."""
    return dataset.classes is not None or dataset.y.dtype.kind in "iub"


def class_count(dataset: Dataset) -> int:
    """Return how many classes the targets tell apart, 0 if they are no labels."""
    answers = dataset.answers()
    if not is_classification(dataset) or not answers.size or answers.min() < 0:
        return 0
    return int(answers.max()) + 1


def counted(
    labels: np.ndarray, scores: np.ndarray, ignored: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,) and scores (n, c) without those that are ignored."""
    if ignored is None:
        return labels, scores
    kept = labels != ignored
    return labels[kept], scores[kept]


def scores_of(
    outputs: np.ndarray, labels: np.ndarray, classes: int
) -> np.ndarray | None:
    """Return the outputs as scores, a row for each label; None if these are values.

    Outputs with one more axis than the labels have a column for each class, others
    score class 1 of 0 and 1.
    """
    columns = outputs.shape[-1] if outputs.shape[:-1] == labels.shape else 1
    if columns == 1 and (classes > 2 or outputs.size != labels.size):
        return None
    return outputs.reshape(-1, columns) if 0 < classes <= max(2, columns) else None


def hits(
    scores: np.ndarray, labels: np.ndarray, logits: bool | None, ignored: int | None
) -> tuple[int, int]:
    """Return how many labels the scores (n, c) or (n, 1) predict, and of how many.

    A single score is for class 1 above 0 as logit, above 1/2 as probability.
    """
    if logits is None:
        logits = bool(np.any((scores < 0) | (scores > 1)))
    labels, scores = counted(labels.reshape(-1), scores, ignored)
    if scores.shape[1] > 1:
        guess = scores.argmax(axis=1)
    else:
        guess = scores[:, 0] > (0.0 if logits else 0.5)
    return int(np.sum(guess == labels)), labels.size


def gives_logits(model: Layer) -> bool | None:
    """Say if the outputs are logits, not probabilities; None for layers of your own."""
    while type(model) is Sequential and len(model):
        model = model[len(model) - 1]
    if isinstance(model, Sigmoid | Softmax):
        return False
    return True if type(model) in LAYERS.values() else None


def converter(model: Layer) -> Convert:
    """Return a function that brings inputs into the type that the model computes in.

    Integers stay integers for a model with an embedding or a layer of your own.
    """
    dtype = model_dtype(model)
    known = {*LAYERS.values(), *CONTAINERS.values()} - {Embedding}
    kinds = "fiub" if all(type(part) in known for part in layers_of(model)) else "f"
    return lambda x: x.astype(dtype, copy=False) if x.dtype.kind in kinds else x


def model_dtype(model: Layer) -> Any:
    """Return the floating-point type of the model's parameters, or else float32."""
    parameters = model.parameters()
    return wrap(parameters.vector).dtype if parameters else np.dtype("float32")


def layers_of(model: Layer) -> Iterator[Layer]:
    """Yield the model and every layer in it, once."""
    seen: set[int] = set()
    stack: list[Any] = [model]
    while stack:
        thing = stack.pop()
        if isinstance(thing, Layer) and id(thing) not in seen:
            seen.add(id(thing))
            yield thing
            stack.extend(vars(thing).values())
        elif isinstance(thing, dict):
            stack.extend(thing.values())
        elif isinstance(thing, list | tuple):
            stack.extend(thing)
