"""Where the time of a computation goes, held against what the machine can do."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any, Self

from sillar.core.listen import Listener
from sillar.nn import Layer
from sillar.watch.limits import limits
from sillar.watch.profile_table import text_of
from sillar.watch.where import Places, Where
from sillar.watch.work import moved, operations

_ADDED = ("calls", "seconds", "share", "operations", "bytes", "least_seconds")
PYTHON, PROFILER = "Python between calls", "the profiler itself"


def profile(
    model: Layer | None = None, *, cprofile: str | os.PathLike[str] | None = None
) -> Profile:
    """Return a listener that measures the calls within its `with` block.

    Print it for the tables, or take `rows()`. Layers are named below `model`. With
    `cprofile`, Python's own profiler runs too, and its file is written there, for
    `pstats`; it slows Python down, so take times from a run without.
    """
    return Profile(model, cprofile)


class Row:
    """Calls of one operation from one place, each with the same work."""

    __slots__ = ("bytes", "calls", "name", "operations", "seconds", "type", "where")

    def __init__(self, name: str, where: Where | None = None, type: str = "") -> None:
        self.name, self.where, self.type = name, where, type
        self.calls = self.operations = self.bytes = 0
        self.seconds = 0.0

    def as_dict(self, wall: float) -> dict[str, Any]:
        """Return the row as plain data; `wall` is what its share is of."""
        where, direction = self.where or Where(), ""
        if self.where is not None:
            direction = "backward" if where.backward else "forward"
        found = {
            "operation": self.name,
            "direction": direction,
            "layer": where.layer,
            "kind": where.kind,
            "line": where.place,
            "calls": self.calls,
            "seconds": self.seconds,
            "share": self.seconds / wall if wall else 0.0,
            "operations": self.operations * self.calls,
            "bytes": self.bytes * self.calls,
            "least_seconds": 0.0,
            "bound": "",
        }
        work = found["operations"], found["bytes"]
        if any(work):
            most = limits("float64" if self.type == "float64" else "float32")
            found |= {"least_seconds": most.seconds(*work), "bound": most.bound(*work)}
        return found


class Profile(Listener):
    """The time of every call in a block, of the Python between them, and of listening.

    They add up to `wall`, the seconds of the block, or of all its blocks.
    """

    def __init__(
        self, model: Layer | None, cprofile: str | os.PathLike[str] | None
    ) -> None:
        self.wall = 0.0
        self._own = 0.0  # the seconds that listening took
        self._places = Places(model)
        self._found: dict[tuple[Any, ...], Row] = {}
        self._path, self._python = cprofile, None

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary for each operation and place, the longest time first.

        Their `seconds` add up to `wall`. `least_seconds` is what the work would take at
        the measured limit that it meets first, `bound`: compute or memory. Less than
        that comes from a cache. An optimizer's update, the Python between calls and the
        profiler itself have no direction.
        """
        rows = self._merged()
        python, own = Row(PYTHON), Row(PROFILER)
        own.seconds = self._own
        python.seconds = self.wall - self._own - sum(row["seconds"] for row in rows)
        rows += [python.as_dict(self.wall), own.as_dict(self.wall)]
        return sorted(rows, key=lambda row: -row["seconds"])

    def layers(self) -> list[dict[str, Any]]:
        """Return a dictionary for each layer, and what is in none, likewise."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows():
            name = row["layer"] or "outside of layers"
            if not row["direction"]:
                name = row["operation"]
            total = found.setdefault(name, _nothing_of(name, row["kind"]))
            for key in _ADDED[1:]:
                total[key] += row[key]
            if row["direction"]:
                total[row["direction"]] += row["seconds"]
        return sorted(found.values(), key=lambda total: -total["seconds"])

    def _merged(self) -> list[dict[str, Any]]:
        """Return a row for each operation and place, whatever the shapes."""
        merged: dict[tuple[Any, ...], dict[str, Any]] = {}
        for key, row in self._found.items():
            new = row.as_dict(self.wall)
            old = merged.setdefault(key[:2], new)
            for name in _ADDED if old is not new else ():
                old[name] += new[name]
        return list(merged.values())

    def __str__(self) -> str:
        return text_of(self.wall, self.rows(), self.layers())

    def __enter__(self) -> Self:
        super().__enter__()
        if self._path is not None:
            from cProfile import Profile as PythonProfile

            self._python: Any = self._python or PythonProfile()
            self._python.enable()
        self._start = perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.wall += perf_counter() - self._start
        if self._path is not None:
            self._python.disable()
            self._python.dump_stats(self._path)
        super().__exit__(*exception)

    def before(self, primitive, args, static):
        """Start the clock."""
        self._began = perf_counter()

    def after(self, primitive, args, arrays, static, out):
        """Stop the clock, and add time and work to the row of this call."""
        ended = perf_counter()
        data = out.data
        where = self._places.here(out)
        key = primitive, where, data.shape, getattr(arrays[0], "shape", None)
        row = self._found.get(key)  # equal shapes at one place are equal work
        if row is None:
            row = self._found[key] = Row(primitive.name, where, str(data.dtype))
            row.operations = operations(row.name, arrays, static, data)
            row.bytes = moved(row.name, arrays, data)
        row.calls += 1
        row.seconds += ended - self._began
        self._own += perf_counter() - ended

    def before_effect(self, function, arrays):
        """Start the clock."""
        self._began = perf_counter()

    def after_effect(self, function, arrays):
        """Stop the clock, and add the time to the row of the optimizer, or of whom."""
        ended = perf_counter()
        name = _doer(function)
        row = self._found.setdefault((name,), Row(name))
        row.calls += 1
        row.seconds += ended - self._began
        self._own += perf_counter() - ended


def _doer(function: Any) -> str:
    """Return the class whose method a function is, or else its own name."""
    function = getattr(function, "func", function)  # of a partial
    owner = getattr(function, "__self__", None)
    return type(owner).__name__ if owner is not None else str(function.__name__)


def _nothing_of(name: str, kind: str) -> dict[str, Any]:
    numbers = ("seconds", "share", "forward", "backward", "operations", "bytes")
    return {
        "layer": name,
        "kind": kind,
        **dict.fromkeys((*numbers, "least_seconds"), 0),
    }
