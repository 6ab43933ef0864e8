"""`sillar export`: the model of a run as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sillar import train
from sillar.cli.recipe import changed
from sillar.cli.record import model_of, read_record
from sillar.cli.sources import source
from sillar.train.evaluate import converter
from sillar.train.scoring import read_notes

EXAMPLES = 3


def export(directory: Path, out: Path | None, folder: Path | None) -> dict[str, Any]:
    """Write the model of a finished run as ONNX; return where it is, and its size.

    The notes of the model's file, as names of classes and the encoder, are its
    metadata.
    """
    from sillar.interop import onnx

    model = train.load(model_of(directory))
    recipe = read_record(directory)["recipe"]
    if folder is not None:
        recipe = changed(recipe, [("data.folder", str(folder.absolute()))])
    test = source(recipe).parts(recipe["training"]["seed"]).test
    x = converter(model)(np.asarray(test.x[:EXAMPLES]))
    path = directory / "model.onnx" if out is None else out
    onnx.export(model, path, x, metadata=read_notes(model_of(directory)))
    return {
        "run": str(directory),
        "file": str(path),
        "bytes": path.stat().st_size,
        "input": ["batch", *x.shape[1:]],
        "type": x.dtype.name,
    }
