"""`sillar predict`: classes and probabilities of examples in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sillar import train
from sillar.cli import show
from sillar.cli.inputs import read_examples
from sillar.cli.record import model_of
from sillar.data import TableTransform, read_columns, read_text
from sillar.errors import ConfigError, FormatError
from sillar.nn import Layer
from sillar.train.scoring import arrange, class_names, probabilities, read_notes


def predict(
    target: Path,
    examples: Path,
    top: int,
    backend: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Return the `top` classes of each example; outputs where there are no classes."""
    path = model_of(target) if target.is_dir() else target
    model = train.load(path).to(backend or "numpy", device)
    notes = read_notes(path)
    if notes.get("text") is not None:
        raise ConfigError(
            f"predict: {str(path)!r} is a character model: see what it writes with"
            " sillar sample"
        )
    x = arrange(_read(path, examples), notes)
    outputs = train.predict(model, x)
    outputs = outputs.reshape(len(outputs), -1).astype(np.float64)
    if not np.isfinite(outputs).all():
        raise FormatError(f"predict: the model in {str(path)!r} gives NaN or infinity")
    result: dict[str, Any] = {"model": str(path), "input": str(examples)}
    names = class_names(path, notes, outputs.shape[1])
    if names is None:
        rows = [{"index": i, "outputs": list(row)} for i, row in enumerate(outputs)]
        return result | {"predictions": rows}
    return result | {"predictions": list(_ranked(model, outputs, names, top))}


def _read(path: Path, examples: Path) -> np.ndarray:
    """Return the examples as numbers; raw ones as the model's encoder makes them."""
    encoder = train.load_encoder(path)
    if encoder is None:
        return read_examples(examples)
    if isinstance(encoder, TableTransform):
        return encoder(read_columns(examples))
    return encoder(read_text(examples).splitlines())


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield what people read: aligned columns, one line for each class shown."""
    rows = result["predictions"]
    if "outputs" in rows[0]:
        yield "index  output"
        for row in rows:
            values = "  ".join(f"{value:.6g}" for value in row["outputs"])
            yield f"{row['index']:>5}  {values}"
        return
    names = [show.clean(row["classes"][0]["class"]) for row in rows]
    width = max(5, *(len(name) for name in names))
    yield f"index  {'class':<{width}}  probability"
    for row in rows:
        for found in row["classes"]:
            name = show.clean(found["class"])
            yield f"{row['index']:>5}  {name:<{width}}  {found['probability']:.4f}"


def _ranked(
    model: Layer, outputs: np.ndarray, names: list[str], top: int
) -> Iterator[dict[str, Any]]:
    """Yield the likeliest classes of each example, the first being the prediction."""
    shares = probabilities(model, outputs)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    for i, places in enumerate(order):
        classes = [
            {"class": names[place], "probability": float(shares[i, place])}
            for place in places
        ]
        yield {"index": i, **classes[0], "classes": classes}
