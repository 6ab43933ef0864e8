"""`sillar inspect`: what a file or a run says of itself, without running anything."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from sillar.cli import show
from sillar.cli.record import MODEL, read_record
from sillar.data.source import open_source
from sillar.describe import label
from sillar.files import Header, read_header
from sillar.nn import Layer, Sequential
from sillar.nn.architecture import build
from sillar.train.model_files import about

LAST_LINE = 2**20  # bytes in which the last line of metrics.jsonl is looked for


def inspect(target: Path) -> dict[str, Any]:
    """Return what is in a file of arrays, or in a run's directory."""
    if not target.is_dir():
        return {"file": inspect_file(target)}
    record = read_record(target)
    path = target / MODEL
    return {
        "run": str(target),
        "record": record,
        "last": _last_metrics(target / "metrics.jsonl"),
        "file": inspect_file(path) if path.exists() else None,
    }


def inspect_file(path: Path) -> dict[str, Any]:
    """Return size, digest, architecture, notes and arrays of one file."""
    header = read_header(path)
    own = about(header, path)
    architecture = own.get("architecture")
    model = None if architecture is None else build(architecture)
    with open_source(path, "inspect") as source:
        digest = hashlib.file_digest(source.stream, "sha256").hexdigest()
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "parameters": _count(header, model),
        "architecture": architecture,
        "layers": None if model is None else _layers(model),
        "notes": own.get("notes", {}),
        "metadata": {k: v for k, v in header.metadata.items() if k != "sillar"},
        "arrays": [
            {"name": name, "dtype": entry.dtype.name, "shape": list(entry.shape)}
            for name, entry in header.entries.items()
        ],
    }


def tables(result: dict[str, Any]) -> list[RenderableType]:
    """Return what people read of it."""
    found: list[RenderableType] = []
    if "run" in result:
        found += _run_tables(result)
    if result["file"] is not None:
        found += _file_tables(result["file"])
    return found


def _run_tables(result: dict[str, Any]) -> list[RenderableType]:
    record, last = result["record"], result["last"]
    training = record["recipe"]["training"]
    metrics = record.get("metrics")
    state = "finished" if metrics is not None else "not finished"
    rows = [
        ("run", result["run"]),
        ("recipe", record["name"]),
        ("state", f"{state}: {record.get('reason') or 'it was cut off'}"),
        ("started", record.get("started")),
        ("ended", record.get("ended")),
        *((name, str(training[name])) for name in ("epochs", "batch_size", "seed")),
    ]
    rows += [(name, record.get(name)) for name in ("platform", "processor")]
    if isinstance(versions := record.get("versions"), dict):
        rows.append(("versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
    found: list[RenderableType] = [show.pairs("run", rows)]
    if isinstance(data := record.get("data"), dict):
        found.append(show.pairs("data, SHA-256", data.items()))
    if isinstance(last, dict):
        text = "last epoch"
        found.append(show.pairs(text, [(str(k), v) for k, v in last.items()]))
    if isinstance(metrics, dict):
        found.append(show.summary(metrics, "test"))
    return found


def _file_tables(file: dict[str, Any]) -> list[RenderableType]:
    notes = [(f"note {name}", _brief(value)) for name, value in file["notes"].items()]
    extra = [(f"metadata {name}", _brief(v)) for name, v in file["metadata"].items()]
    rows = [
        ("file", file["path"]),
        ("size", f"{file['bytes']:,} bytes"),
        ("sha256", file["sha256"]),
        ("parameters", file["parameters"]),
    ]
    found: list[RenderableType] = [show.pairs("model", [*rows, *notes, *extra])]
    layers = file["layers"]
    lines = ["none in the file"] if layers is None else layers
    found.append(show.pairs("layers", [(str(i), line) for i, line in enumerate(lines)]))
    arrays = [[a["name"], a["dtype"], a["shape"]] for a in file["arrays"]]
    found.append(show.table("arrays", ("name", "type", "shape"), arrays))
    return found


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _count(header: Header, model: Layer | None) -> int:
    """Return how many numbers are trained; all of them if nothing says which."""
    trained = set(header.entries) if model is None else set(model.parameters())
    entries = header.entries.items()
    return sum(math.prod(entry.shape) for name, entry in entries if name in trained)


def _layers(model: Layer) -> list[str]:
    if not isinstance(model, Sequential):
        return [label(model)]
    return [line for part in model.layers for line in _layers(part)]


def _last_metrics(path: Path) -> dict[str, Any] | None:
    """Return the last whole line of metrics.jsonl, or None."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_LINE))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None
