"""From raw examples to classes and probabilities, by what a model's file says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sillar.errors import DataError, FormatError, ShapeError
from sillar.files import read_header
from sillar.nn import Layer, Sequential, Sigmoid, Softmax
from sillar.train.model_files import about


def read_notes(path: Path) -> dict[str, Any]:
    """Return the notes of a model's file, those that we read having been checked."""
    notes = about(read_header(path), path).get("notes")
    if not isinstance(notes, dict):
        notes = {}
    shape, scale = notes.get("input"), notes.get("scale")
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    if not (shape is None or (whole and len(shape) < 32)):
        raise FormatError(f"{str(path)!r}: the note input is no shape: {shape!r:.60}")
    if not (scale is None or (type(scale) in (int, float) and 0 < scale < 2**63)):
        raise FormatError(f"{str(path)!r}: the note scale is no number: {scale!r:.60}")
    return notes


def arrange(x: np.ndarray, notes: dict[str, Any]) -> np.ndarray:
    """Return examples (n, ...) as the model was trained on them.

    Flat rows are reshaped, a missing axis of one channel or for a single example is
    added, and whole numbers above 1 are pixels, which are divided by the scale.
    """
    if x.dtype.kind not in "biuf":
        raise DataError(f"predict: expected real numbers, got {x.dtype}")
    shape = notes.get("input")
    if shape is not None:
        x = _shaped(x, tuple(shape))
    if not x.ndim or not len(x):
        raise DataError("predict: the file holds no examples")
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"predict: example {int(bad.argmax())} has NaN or infinite values: correct"
            " it or leave it out"
        )
    scale = notes.get("scale")
    if scale is not None and x.max() > 1 and np.all(x == np.floor(x)):
        x = np.divide(x, scale, dtype=np.float32)
    return x


def _shaped(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape[1:] == shape and x.ndim:
        return x
    if x.shape == shape:
        return x[np.newaxis]
    size = math.prod(shape)
    flat = x.ndim == 2 and x.shape[1] == size
    if flat or (shape[-1:] == (1,) and x.shape[1:] == shape[:-1]):
        return x.reshape(len(x), *shape)
    if shape[-1:] == (1,) and x.shape == shape[:-1]:
        return x.reshape(1, *shape)
    sizes = ", ".join(map(str, shape))
    rows = f", or rows of {size} numbers" if len(shape) > 1 else ""
    raise ShapeError(
        f"predict: the model expects examples of shape (n, {sizes}){rows}; the file has"
        f" {x.shape}"
    )


def class_names(path: Path, notes: dict[str, Any], width: int) -> list[str] | None:
    """Return the names of the classes, or None for outputs that are no classes."""
    classes = notes.get("classes")
    count = max(2, width)
    if classes is None:
        numbered = "classes" not in notes and width > 1
        return [str(i) for i in range(count)] if numbered else None
    if (
        not isinstance(classes, list)
        or len(classes) != count
        or not all(isinstance(name, str) for name in classes)
    ):
        raise FormatError(
            f"{str(path)!r}: expected {count} names of classes in the notes, got"
            f" {classes!r:.80}"
        )
    return classes


def probabilities(model: Layer, outputs: np.ndarray) -> np.ndarray:
    """Return probabilities (n, classes) of logits, or of what the model made ones."""
    last = model
    while isinstance(last, Sequential) and len(last):
        last = last[-1]
    if outputs.shape[1] == 1:
        z = np.clip(outputs, -500, 500)
        one = outputs if isinstance(last, Sigmoid) else 1 / (1 + np.exp(-z))
        return np.concatenate([1 - one, one], axis=1)
    if isinstance(last, Softmax):
        return outputs
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
