"""`sillar evaluate`: a run's model on the test part of its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sillar import train
from sillar.cli import show
from sillar.cli.plan import make_loss
from sillar.cli.recipe import changed
from sillar.cli.record import model_of, read_record
from sillar.cli.sources import source


def evaluate(directory: Path, folder: Path | None) -> dict[str, Any]:
    """Return the metrics, of the data in another `folder` if one is given."""
    model = train.load(model_of(directory))
    record = read_record(directory)
    recipe = record["recipe"]
    if folder is not None:
        recipe = changed(recipe, [("data.folder", str(folder.absolute()))])
    test = source(recipe).parts(recipe["training"]["seed"]).test
    known = record.get("data")
    if isinstance(known, dict) and test.digest() != known.get("test"):
        show.say(
            "warning: this is not the data that the run was tested on", style="yellow"
        )
    return train.evaluate(model, test, loss=make_loss(recipe))
