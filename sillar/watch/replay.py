"""One call of a primitive as a file of arrays, and the same call again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sillar.backends import Window, backend_of
from sillar.core.dtypes import SCALARS
from sillar.core.tape import Primitive, all_primitives
from sillar.core.tensor import Tensor
from sillar.data import read_npz
from sillar.errors import ConfigError, DataError
from sillar.files import replacing

_CALL = "call"  # the array that holds the rest of the call, as JSON
_SEQUENCES = {"tuple": tuple, "list": list, "Window": lambda parts: Window(*parts)}


def save_call(
    path: str | os.PathLike[str],
    primitive: Primitive,
    arrays: Sequence[Any],
    static: Mapping[str, Any],
) -> None:
    """Write a call's inputs as NPZ: arrays, and one JSON text for all else."""
    inputs: list[Any] = []
    saved = {}
    for i, array in enumerate(arrays):
        if isinstance(array, SCALARS):
            inputs.append(array)
        else:
            inputs.append(f"input{i}")
            saved[f"input{i}"] = backend_of(array).to_numpy(array)
    call = {
        "primitive": primitive.name,
        "inputs": inputs,
        "static": {name: _plain(value) for name, value in static.items()},
    }
    with replacing(os.fspath(path)) as file:
        np.savez(file, **{_CALL: np.array(json.dumps(call))}, **saved)


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # what it is about
def replay(path: str | os.PathLike[str], **static: Any) -> Tensor:
    """Call again what `find_nonfinite` saved at `path`, and return the output.

    Static arguments given by keyword take the place of the saved ones. The inputs
    alone are in `sillar.data.read_npz(path)`.
    """
    saved = read_npz(path)
    try:
        call = json.loads(str(saved[_CALL]))
        primitive, kept = _named(call["primitive"]), dict(call["static"]) | static
        args = [saved[x] if isinstance(x, str) else x for x in call["inputs"]]
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as fault:
        raise DataError(
            f"replay: {os.fspath(path)!r} holds no saved call ({fault!r:.60}): give the"
            " file that find_nonfinite wrote"
        ) from None
    return primitive(*args, **{name: _built(value) for name, value in kept.items()})


def _named(name: str) -> Primitive:
    for primitive in reversed(all_primitives()):
        if primitive.name == name:
            return primitive
    raise ConfigError(
        f"replay: there is no primitive {name!r:.60}: import the module that makes it"
    )


def _plain(value: Any) -> Any:
    """Return a static argument as JSON has it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if value is Ellipsis:
        return {"Ellipsis": []}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, Window | tuple | list):
        return {type(value).__name__: [_plain(part) for part in value]}
    if isinstance(value, np.integer):
        return int(value)
    try:
        return {"dtype": np.dtype(value).name}
    except TypeError:
        return {"unknown": [f"{value!r:.200}"]}


def _built(value: Any) -> Any:
    """Return the static argument that _plain took apart."""
    if isinstance(value, str):
        return sys.intern(value)  # an index template asks which object it is
    if not isinstance(value, dict):
        return value
    ((kind, parts),) = value.items()
    if kind == "dtype":
        return np.dtype(parts)
    if kind == "unknown":
        raise ConfigError(
            f"replay: a static argument was {parts[0]}, which no file holds: give it by"
            " keyword"
        )
    if kind == "Ellipsis":
        return Ellipsis
    if kind == "slice":
        return slice(*parts)
    return _SEQUENCES[kind]([_built(part) for part in parts])
