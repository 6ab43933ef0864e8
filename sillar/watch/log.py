"""A log with a line for each operation, and where two such logs part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple, Self

import numpy as np

from sillar.backends import Array, backend_of
from sillar.core.dtypes import SCALARS, is_floating
from sillar.core.listen import Listener
from sillar.errors import ConfigError, DataError
from sillar.nn import Layer
from sillar.optim.checks import integer
from sillar.train.callbacks import json_text
from sillar.watch.where import Places

_LAST = 200  # bytes kept free for the line that says that the log was stopped
_CALL = ("name", "layer", "backward", "inputs", "shape", "dtype")
_VALUES = ("mean", "deviation", "largest")


def log_nodes(
    path: str | os.PathLike[str],
    model: Layer | None = None,
    *,
    max_bytes: int = 64 * 2**20,
) -> Listener:
    """Within a `with` block, write one line of JSON to `path` for each operation.

    A line has id, name, layer (below `model`), line of the program, whether it is on
    the way back, shapes of inputs and output, and of the output dtype, mean, standard
    deviation, largest absolute value, all of its finite values, and how many are not
    finite. Of an empty output the values are null. The file never grows beyond
    `max_bytes`; its last line then says after which node it stopped.
    """
    room = integer("log_nodes: max_bytes", max_bytes, low=1024)
    return _Log(os.fspath(path), model, room)


class _Log(Listener):
    def __init__(self, path: str, model: Layer | None, max_bytes: int) -> None:
        self.path, self.places = path, Places(model)
        self.room = max_bytes - _LAST

    def __enter__(self) -> Self:
        self.file: Any = open(self.path, "wb")
        self.nodes, self.written = 0, 0
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.file.close()

    def after(self, primitive, args, arrays, static, out):
        """Write the line of a call."""
        if self.written > self.room:
            return
        where = self.places.here(out)
        line = {
            "id": self.nodes,
            "name": primitive.name,
            "layer": where.layer,
            "line": where.place,
            "backward": where.backward,
            "inputs": [() if type(a) in SCALARS else a.shape for a in arrays],
            "shape": out.shape,
            "dtype": str(out.dtype),
            **statistics(out.data),
        }
        text = json_text(line).encode() + b"\n"
        if self.written + len(text) > self.room:
            reason = f"max_bytes was reached after {self.nodes} nodes"
            text = json_text({"stopped": reason}).encode() + b"\n"
            self.room = -1
        self.file.write(text)
        self.written += len(text)
        self.nodes += 1


def statistics(array: Array) -> dict[str, Any]:
    """Return mean, deviation and largest of the finite values, and how many are not."""
    values = np.asarray(backend_of(array).to_numpy(array))
    bad = 0
    if is_floating(values):
        finite = np.isfinite(values)
        bad = values.size - int(finite.sum())
        values = values[finite] if bad else values
    if values.size == 0:
        return {**dict.fromkeys(_VALUES), "non_finite": bad}
    with np.errstate(over="ignore", invalid="ignore"):  # of float64 close to its end
        found = (
            values.mean(dtype=np.float64),
            values.std(dtype=np.float64),
            max(abs(float(values.max())), abs(float(values.min()))),
        )
    rounded = (float(f"{value:.9g}") for value in found)
    return {**dict(zip(_VALUES, rounded, strict=True)), "non_finite": bad}


class Difference(NamedTuple):
    """The first node at which two logs part: its line in the first log, and how."""

    node: dict[str, Any]
    how: str

    def __str__(self) -> str:
        node = self.node
        way = ", on the way back" if node["backward"] else ""
        place = " ".join(filter(None, (node["layer"] and "in", node["layer"])))
        at = ", ".join(filter(None, (place, node["line"])))
        return f"node {node['id']}, {node['name']} {at}{way}: {self.how}"


def diff_logs(
    a: str | os.PathLike[str], b: str | os.PathLike[str], *, rtol: float = 1e-6
) -> Difference | None:
    """Return the first node where two logs of `log_nodes` part, or None.

    Numbers may differ by `rtol` times the largest value of the output. A log that was
    stopped at its largest size is compared as far as it goes.
    """
    if not rtol >= 0:
        raise ConfigError(f"diff_logs: rtol must be >= 0, got {rtol!r}")
    for one, two in zip_longest(_lines(a), _lines(b)):
        if any(line is not None and "stopped" in line for line in (one, two)):
            return None
        if one is None or two is None:
            longer = "second" if one is None else "first"
            return Difference(one or two, f"only the {longer} run has it")
        how = _how(one, two, rtol)
        if how:
            return Difference(one, how)
    return None


def _how(one: dict[str, Any], two: dict[str, Any], rtol: float) -> str:
    """Return what differs between two nodes, or nothing."""
    for key in (*_CALL, "non_finite"):
        if one[key] != two[key]:
            return f"{key.replace('_', ' ')} is {one[key]} and {two[key]}"
    for key in _VALUES:
        x, y = one[key], two[key]
        if x is None or y is None:
            if x is not y:
                return f"{key} is {x} and {y}"
            continue
        scale = max(one["largest"] or 0.0, two["largest"] or 0.0)
        if abs(x - y) > rtol * scale:
            relative = abs(x - y) / scale
            return (
                f"{key} is {x:.7g} and {y:.7g}, apart by {relative:.1e} of the largest"
                f" value (rtol {rtol:.0e})"
            )
    return ""


def _lines(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    needed = {"id", "line", "non_finite", *_CALL, *_VALUES}
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                line = None
            if not isinstance(line, dict) or not (
                "stopped" in line or needed <= set(line)
            ):
                raise DataError(
                    f"diff_logs: line {number} of {os.fspath(path)!r} is not one of a"
                    " log: give two files that log_nodes wrote"
                )
            yield line
