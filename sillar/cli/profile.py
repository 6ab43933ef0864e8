"""`sillar profile`: where the time of a run's training steps goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sillar import train
from sillar.cli.plan import Plan, make_plan
from sillar.cli.recipe import changed
from sillar.cli.record import MODEL, read_record
from sillar.core.rng import Rng
from sillar.train.evaluate import converter
from sillar.train.prepare import batches, fill
from sillar.train.step import Step
from sillar.watch.limits import limits
from sillar.watch.profile import profile as listen
from sillar.watch.profile_table import text_of


def profile(
    directory: Path, steps: int, cprofile: Path | None, folder: Path | None
) -> dict[str, Any]:
    """Return where the time of `steps` training steps goes; nothing of it is kept.

    Steps are measured as they are written, then once more as `fit` runs them, compiled.
    """
    recipe = read_record(directory)["recipe"]
    if folder is not None:
        recipe = changed(recipe, [("data.folder", str(folder.absolute()))])
    plan = make_plan(recipe)
    if (directory / MODEL).exists():
        plan.model = train.load(directory / MODEL)
    fill(plan.model, Rng(recipe["training"]["seed"]).split("weights"))
    step = _stepper(plan, compiled=False)
    step(2)  # to warm up
    with listen(plan.model) as measured:
        step(steps)
    if cprofile is not None:
        with listen(plan.model, cprofile=cprofile):
            step(1)
    step = _stepper(plan, compiled=None)
    step(2)
    start = time.perf_counter()
    step(steps)
    return {
        "run": str(directory),
        "steps": steps,
        "seconds": measured.wall,
        "compiled_seconds": time.perf_counter() - start,
        "limits": limits()._asdict(),
        "layers": measured.layers(),
        "rows": [{**row, "line": ""} for row in measured.rows()],  # no user's program
    }


def text(result: dict[str, Any]) -> str:
    """Return what people see of it."""
    steps, plain, compiled = (
        result[name] for name in ("steps", "seconds", "compiled_seconds")
    )
    tables = text_of(plain, result["rows"], result["layers"])
    return (
        f"{tables}\n\none step as written: {plain / steps * 1e3:.2f} ms; as training"
        f" runs it, compiled: {compiled / steps * 1e3:.2f} ms"
    )


def _stepper(plan: Plan, *, compiled: bool | None) -> Callable[[int], None]:
    """Return a function that trains for a number of steps."""
    model, given = plan.model, plan.arguments
    size, seed = given["batch_size"], given["seed"]
    plan.optimizer.bind(
        model.parameters(), transforms=given["transforms"], penalty=given["penalty"]
    )
    gradients = Step(
        *(model, plan.loss, plan.optimizer.params),
        compiled=compiled,  # a step as it is written has no halves
        precision="float32" if compiled is False else given["precision"],
    )
    convert, loader = converter(model), batches(model, plan.parts.train, size, seed)

    def endless() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from loader.epoch(epoch)
            epoch += 1

    def run(steps: int) -> None:
        for i, (x, y) in enumerate(islice(endless(), steps)):
            loss, _, gradient = gradients(convert(x), y, Rng(seed).split("step", i))
            loss.item()
            plan.optimizer.step(gradient)

    return run
