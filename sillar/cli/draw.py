"""`sillar draw`: the graph of a run's training step as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sillar import train
from sillar.cli.plan import build_model, make_loss
from sillar.cli.recipe import changed
from sillar.cli.record import MODEL, read_record
from sillar.cli.sources import source
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.train.evaluate import compute_loss, converter
from sillar.train.prepare import batches
from sillar.watch import draw as draw_graph


def draw(
    directory: Path,
    out: Path | None,
    unfold: Sequence[str] | bool,
    *,
    gradients: bool,
    boxes: int,
    folder: Path | None,
) -> dict[str, Any]:
    """Draw one step on the first batch, and return where the picture is.

    The model is the trained one, or what training begins with if there is none yet.
    """
    recipe = read_record(directory)["recipe"]
    if folder is not None:
        recipe = changed(recipe, [("data.folder", str(folder.absolute()))])
    training = recipe["training"]
    seed = Rng(training["seed"])
    if (directory / MODEL).exists():
        model = train.load(directory / MODEL)
    else:
        model = build_model(recipe).init(seed.split("weights"))
    examples = source(recipe).parts(training["seed"]).train
    loader = batches(model, examples, training["batch_size"], training["seed"])
    x, y = next(iter(loader))
    loss = make_loss(recipe)

    def step() -> Tensor:
        outputs = model(converter(model)(x), rng=seed.split("step", 0))
        return compute_loss(loss, outputs, y)

    drawing = draw_graph(step, model, unfold=unfold, gradients=gradients, limit=boxes)
    path = directory / "graph.svg" if out is None else out
    drawing.save(path)
    return {
        "run": str(directory),
        "file": str(path),
        "operations": drawing.operations,
        "boxes": drawing.boxes,
    }
