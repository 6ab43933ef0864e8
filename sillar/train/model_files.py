"""A whole model in one file: its arrays, and its architecture in the header.

The layout is safetensors (see `sillar.files`). The header's metadata has one entry of
ours, JSON with the architecture from the closed list of layers; loading can build
nothing else and runs nothing.
"""

from __future__ import annotations

import json
import math
import reprlib  # what came may be nested deeper than repr can go
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sillar.data.encoder import Encoder
from sillar.data.encoders import build_encoder
from sillar.errors import ConfigError, FormatError, SillarError
from sillar.files import Header, read_header, read_into, write_arrays
from sillar.nn import Layer
from sillar.nn.architecture import build, describe

KEY = "sillar"
ENCODER = "encoder"  # the note that describes it
VERSION = 1


def save(
    model: Layer, path: str | Path, *, encoder: Encoder | None = None, **notes: Any
) -> None:
    """Write the model's arrays and architecture to `path`, whole or not at all.

    With `encoder`, what turned raw data into the model's input goes with it, for
    `load_encoder`. `notes` are kept too: plain data such as
    classes=["benign", "malware"]. A model is saved without its architecture if that
    cannot be built from the closed list, as one with layers of your own. Tied weights
    are stored once, and tied again.
    """
    arrays = model.state()
    if encoder is not None:
        if not isinstance(encoder, Encoder):
            raise ConfigError(
                f"save: expected an encoder, as CharTokenizer, got {encoder!r:.60}"
            )
        notes[ENCODER] = encoder.describe()
    about = {"version": VERSION, "architecture": _architecture(model), "notes": notes}
    try:
        text = json.dumps(about, allow_nan=False, default=_number)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"save: expected plain data and finite numbers as notes: {error}"
        ) from None
    write_arrays(path, arrays, {KEY: text})


def load(path: str | Path, model: Layer | None = None) -> Layer:
    """Return the model in `path`, built from the file alone.

    For a model that was saved without its architecture give `model`, built by your
    code; it is filled from the file and returned.
    """
    header = read_header(path)
    if model is None:
        model = _built(path, about(header, path).get("architecture"))
        _check(path, model, header, buffers="f")
    else:
        _check(path, model, header, buffers="fiub")
    types = [header.entries[name].dtype for name in model.parameters()]
    with _unchanged_on_error(model):
        model.parameters().lay_out(types[0] if types else None, lambda path, p: 0)
        for name, buffer in model.buffers().items():
            buffer.data = np.empty(buffer.shape, header.entries[name].dtype)
        read_into(path, model.state())
    return model


def load_encoder(path: str | Path) -> Encoder | None:
    """Return the encoder that was saved with the model in `path`, None without one."""
    notes = about(read_header(path), path).get("notes")
    described = notes.get(ENCODER) if isinstance(notes, dict) else None
    if described is None:
        return None
    try:
        return build_encoder(described)
    except (SillarError, OverflowError) as error:
        raise FormatError(f"load_encoder {str(path)!r}: {error!s:.500}") from None


def about(header: Header, path: str | Path) -> dict[str, Any]:
    """Return what a header says of its model: version, architecture and notes."""
    text = header.metadata.get(KEY)
    if text is None:
        return {}
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"load {str(path)!r}: the architecture in the header is not JSON:"
            f" {error!s:.80}; save the model again"
        ) from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise FormatError(
            f"load {str(path)!r}: expected version {VERSION} of the header, got"
            f" {reprlib.repr(version)}; load it with the release that wrote it"
        )
    return found


def _architecture(model: Layer) -> dict[str, Any] | None:
    """Return the model as plain data, None unless that gives the same arrays again."""
    try:
        described = json.loads(json.dumps(describe(model), default=_number))
        return described if _shapes(build(described)) == _shapes(model) else None
    except (TypeError, ValueError):  # what is not plain data; what cannot be built
        return None


def _built(path: str | Path, architecture: Any) -> Layer:
    if architecture is None:
        raise FormatError(
            f"load {str(path)!r}: the file has no architecture, its model has layers of"
            " its author's own: build the model and call load(path, model)"
        )
    try:
        model = build(architecture)
    except SillarError as error:
        raise FormatError(f"load {str(path)!r}: {error!s:.500}") from None
    if not _within(architecture, describe(model)):
        raise FormatError(
            f"load {str(path)!r}: the model is not what the architecture says: some"
            " argument is of the wrong type; save the model again"
        )
    return model


def _within(given: Any, described: Any) -> bool:
    """Say whether all that is given stands in a description, in the same types."""
    if isinstance(given, dict):
        return all(_within(part, described[name]) for name, part in given.items())
    if isinstance(given, list) and isinstance(described, list):
        return len(given) == len(described) and all(map(_within, given, described))
    return given == described and isinstance(given, bool) == isinstance(described, bool)


def _shapes(model: Layer) -> dict[str, tuple[int, ...]]:
    declared = (*model.parameters().items(), *model.buffers().items())
    return {name: p.shape for name, p in declared}


def _check(path: str | Path, model: Layer, header: Header, buffers: str) -> None:
    """Raise unless the file holds exactly the arrays that the model declares.

    Parameters are of one floating-point type, buffers of the kinds in `buffers`.
    """
    declared, entries = _shapes(model), header.entries
    stored = {name: entry.shape for name, entry in entries.items()}
    trained = model.parameters()
    types = {str(entries[name].dtype) for name in trained if name in entries}
    kinds = {entry.dtype.kind for name, entry in entries.items() if name not in trained}
    faults = {
        "missing": sorted(declared.keys() - stored.keys()),
        "unexpected": sorted(stored.keys() - declared.keys()),
        "shapes": [
            f"{name}: {stored[name]} for {shape}"
            for name, shape in declared.items()
            if stored.get(name, shape) != shape
        ],
        "types": [*types] if len(types) > 1 else [t for t in types if "f" not in t],
        "kinds of buffers": sorted(kinds - set(buffers)),
    }
    found = [f"{fault} {names!r:.120}" for fault, names in faults.items() if names]
    if found:
        raise FormatError(
            f"load {str(path)!r}: the arrays are not this model's: {'; '.join(found)};"
            " load it as what it was saved from"
        )


@contextmanager
def _unchanged_on_error(model: Layer) -> Iterator[None]:
    """Put the model's own arrays back if they cannot be replaced as a whole."""
    before = [
        (p, p.data) for p in (*model.parameters().values(), *model.buffers().values())
    ]
    try:
        yield
    except BaseException:
        for p, data in before:
            p.data = data
        raise


def _number(value: Any) -> Any:
    """Return a NumPy number as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot write {value!r:.60}")


def _finite(text: str) -> float:
    """Return the number `text`; JSON has neither NaN nor infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value
