"""A whole model in one file: its arrays, and its architecture in the header.

The layout is safetensors (see `sillar.files`). The header's metadata has one entry of
ours, JSON with the architecture from the closed list of layers; loading can build
nothing else and runs nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sillar.errors import ConfigError, FormatError, SillarError
from sillar.files import Header, read_header, read_into, write_arrays
from sillar.nn import Layer
from sillar.nn.architecture import build, describe

KEY = "sillar"
VERSION = 1


def save(model: Layer, path: str | Path, **notes: Any) -> None:
    """Write the model's arrays and architecture to `path`, whole or not at all.

    `notes` are kept beside them: plain data such as classes=["benign", "malware"]. A
    model with layers of your own is saved without its architecture.
    """
    about = {"version": VERSION, "architecture": describe(model), "notes": notes}
    try:
        text = json.dumps(about)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"save: notes must be plain data: {error}") from None
    write_arrays(path, model.state(), {KEY: text})


def load(path: str | Path, model: Layer | None = None) -> Layer:
    """Return the model in `path`, built from the file alone.

    For a model with layers of your own give `model`, built by your code; it is filled
    from the file and returned.
    """
    header = read_header(path)
    if model is None:
        model = _built(path, about(header, path).get("architecture"))
    _check(path, model, header)
    dtypes = {
        entry.dtype for entry in header.entries.values() if entry.dtype.kind == "f"
    }
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype("float32")
    model.parameters().lay_out(dtype, lambda path, p: 0)
    for name, buffer in model.buffers().items():
        buffer.data = np.empty(buffer.shape, header.entries[name].dtype)
    read_into(path, model.state())
    return model


def about(header: Header, path: str | Path) -> dict[str, Any]:
    """Return what a header says of its model: version, architecture and notes."""
    text = header.metadata.get(KEY)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"load {str(path)!r}: the architecture in the header is not JSON:"
            f" {str(error)[:80]}; save the model again"
        ) from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise FormatError(
            f"load {str(path)!r}: expected version {VERSION} of the header, got"
            f" {version!r:.40}; load it with the release that wrote it"
        )
    return found


def _built(path: str | Path, architecture: Any) -> Layer:
    if architecture is None:
        raise FormatError(
            f"load {str(path)!r}: the file has no architecture, its model has layers of"
            " its author's own: build the model and call load(path, model)"
        )
    try:
        return build(architecture)
    except SillarError as error:
        raise FormatError(f"load {str(path)!r}: {error}") from None


def _check(path: str | Path, model: Layer, header: Header) -> None:
    """Raise unless the file holds exactly the arrays that the model declares."""
    declared = {
        k: p.shape for k, p in (*model.parameters().items(), *model.buffers().items())
    }
    stored = {name: entry.shape for name, entry in header.entries.items()}
    missing = sorted(set(declared) - set(stored))
    unknown = sorted(set(stored) - set(declared))
    different = [
        f"{name}: {stored[name]} for {shape}"
        for name, shape in declared.items()
        if name in stored and stored[name] != shape
    ]
    kinds = sorted(n for n, e in header.entries.items() if e.dtype.kind != "f")
    if missing or unknown or different or kinds:
        raise FormatError(
            f"load {str(path)!r}: the arrays are not this model's:"
            f" missing {missing!r:.80}, unexpected {unknown!r:.80},"
            f" shapes {different!r:.120}, not floating-point {kinds!r:.80}"
        )
