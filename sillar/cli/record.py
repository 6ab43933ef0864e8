"""The directory of a run, and `run.json` in it: all it takes to train again.

    run.json             recipe, seed, machine, data, times, why it ended, test metrics
    metrics.jsonl        one line per epoch; metrics.csv and events/ on request
    checkpoint/          what a killed run goes on from
    model.safetensors    the trained model

A run is finished once its record holds test metrics.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sillar.cli.machine import environment
from sillar.cli.recipe import checked
from sillar.data.source import open_source
from sillar.errors import ConfigError, DataError
from sillar.files import replacing
from sillar.train.callbacks import json_text
from sillar.train.checkpoint import FILE

RECORD = "run.json"
MODEL = "model.safetensors"
# Names in a run's directory.
OWN = (RECORD, MODEL, "metrics.jsonl", "checkpoint", "metrics.csv", "events")
LIMIT = 2**24  # bytes
VERSION = 1


def now() -> str:
    """Return the time as text, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_directory(name: str, out: Path | None) -> Path:
    """Make and return a directory for a run, one that holds no other run."""
    if out is not None:
        present = [own for own in OWN if (out / own).exists()]
        if present:
            raise ConfigError(
                f"--out: {str(out)!r} holds a run already ({', '.join(present)}): go on"
                " with --resume, or choose another directory"
            )
        out.mkdir(parents=True, exist_ok=True)
        return out
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for ending in ("", *(f"-{n}" for n in range(2, 1000))):
        directory = Path("runs", stem + ending)
        with suppress(FileExistsError):
            directory.mkdir(parents=True)
            return directory
    raise ConfigError(f"runs/{stem} exists a thousand times: name one with --out DIR")


def new_record(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a run that begins now."""
    return {
        "version": VERSION,
        "name": name,
        "recipe": recipe,
        "seed": recipe["training"]["seed"],
        **environment(),
        "data": None,
        "started": now(),
        "resumed": [],
        **new_state(),
    }


def new_state() -> dict[str, Any]:
    """Return how far a run is that has not ended."""
    return {"ended": None, "reason": None, "failed": False, "metrics": None}


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write the record, whole or not at all."""
    with replacing(str(directory / RECORD)) as file:
        file.write(json_text(record).encode() + b"\n")


def read_record(directory: Path) -> dict[str, Any]:
    """Return the record of the run in a directory, its recipe checked."""
    path = directory / RECORD
    if not path.exists():
        raise ConfigError(
            f"{str(directory)!r} holds no run, there is no {RECORD}: start one with"
            " sillar train RECIPE --out DIR"
        )
    with open_source(path, "run") as source:
        text = source.read(LIMIT)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"run: {str(path)!r} is not JSON: {error!s:.80}") from None
    fresh = {"version": int, "name": str, "recipe": dict, "resumed": list}
    wrong = [
        name
        for name, kind in fresh.items()
        if not isinstance(record, dict) or not isinstance(record.get(name), kind)
    ]
    if wrong or record["version"] != VERSION:
        raise DataError(
            f"run: {str(path)!r} is not the record of a run of this release:"
            f" {', '.join(wrong) or 'version'} is missing or different"
        )
    record["recipe"] = checked(record["recipe"])
    return record


def model_of(directory: Path) -> Path:
    """Return the path of a run's trained model."""
    path = directory / MODEL
    if not path.exists():
        read_record(directory)  # says so where there is no run at all
        raise ConfigError(
            f"{str(directory)!r} has no trained model yet: finish the run with"
            f" sillar train --resume {directory}"
        )
    return path


def is_finished(directory: Path, record: dict[str, Any]) -> bool:
    """Say whether the run was trained and tested to its end."""
    return isinstance(record.get("metrics"), dict) and (directory / MODEL).exists()


def sweep(directory: Path) -> None:
    """Remove what writes left behind that were killed half-way."""
    for folder in (directory, (directory / FILE).parent):
        for leftover in folder.glob(".????????????????.tmp"):
            leftover.unlink(missing_ok=True)
