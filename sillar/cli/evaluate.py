"""`sillar evaluate`: a run's model on the test part of its recipe."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sillar import train
from sillar.cli import show
from sillar.cli.beside import beside
from sillar.cli.origin import Parts
from sillar.cli.plan import make_loss
from sillar.cli.record import model_of, read_record
from sillar.cli.sources import source_of
from sillar.nn import CrossEntropy, Layer, Loss


def evaluate(
    directory: Path,
    folder: Path | None,
    backend: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Return the metrics, of the data in another `folder` if one is given."""
    model = train.load(model_of(directory)).to(backend or "numpy", device)
    record = read_record(directory)
    recipe = record["recipe"]
    known = record.get("data")
    origin, parts = source_of(recipe, model_of(directory), folder, known)
    if isinstance(known, dict) and parts.test.digest() != known.get("test"):
        show.say(
            "warning: this is not the data that the run was tested on", style="yellow"
        )
    return measured(model, parts, make_loss(recipe), origin.notes)


def measured(
    model: Layer, parts: Parts, loss: Loss, notes: dict[str, Any]
) -> dict[str, Any]:
    """Return the metrics on the test part, with what stands beside them.

    For text that is how many bits a character takes, the cross-entropy with the
    logarithm to base 2; for others baselines.
    """
    found = train.evaluate(model, parts.test, loss=loss)
    if "text" not in notes:
        return found | beside(parts)
    if not isinstance(loss, CrossEntropy):
        return found
    if loss.label_smoothing or loss.weights is not None or loss.reduction != "mean":
        return found
    return {"bits_per_character": found["loss"] / math.log(2), **found}
