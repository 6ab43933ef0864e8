"""Where the time of a computation goes, held against what the machine can do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Self

from sillar.backends import Array
from sillar.core.listen import Listener
from sillar.core.tensor import Tensor
from sillar.nn import Layer
from sillar.watch.limits import limits
from sillar.watch.profile_table import text_of
from sillar.watch.where import Places, Where
from sillar.watch.work import moved, operations

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
    """All calls of one operation from one place."""

    __slots__ = (
        *("bytes", "calls", "each", "name", "operations", "seconds"),
        *("shapes", "type", "where"),
    )

    def __init__(self, name: str, where: Where | None = None, type: str = "") -> None:
        self.name, self.where, self.type = name, where, type
        self.calls = self.operations = self.bytes = 0
        self.seconds = 0.0
        self.shapes: Any = None  # of the latest call
        self.each = 0, 0  # its operations and bytes

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
            "operations": self.operations,
            "bytes": self.bytes,
            "least_seconds": 0.0,
            "bound": "",
        }
        if self.operations or self.bytes:
            most = limits("float64" if self.type == "float64" else "float32")
            work = self.operations, self.bytes
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
        self._found: dict[tuple[Any, Where | None], Row] = {}
        self._path, self._python = cprofile, None

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary for each operation and place, the longest time first.

        Their `seconds` add up to `wall`. `least_seconds` is what the work would take at
        the measured limit that it meets first, `bound`: compute or memory. Less than
        that comes from a cache. An optimizer's update, the Python between calls and the
        profiler itself have no direction.
        """
        rows = [row.as_dict(self.wall) for row in self._found.values()]
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
            for key in ("seconds", "share", "operations", "bytes", "least_seconds"):
                total[key] += row[key]
            if row["direction"]:
                total[row["direction"]] += row["seconds"]
        return sorted(found.values(), key=lambda total: -total["seconds"])

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

    def before(
        self, primitive: Any, args: Sequence[Any], static: dict[str, Any]
    ) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def after(
        self,
        primitive: Any,
        args: Sequence[Any],
        arrays: Sequence[Array],
        static: dict[str, Any],
        out: Tensor,
    ) -> None:
        """Stop the clock, and add time and work to the row of this call."""
        ended = perf_counter()
        where, data = self._places.here(out), out.data
        row = self._found.get((primitive, where))
        if row is None:
            row = Row(primitive.name, where, str(data.dtype))
            self._found[primitive, where] = row
        shapes = data.shape, getattr(arrays[0], "shape", None)
        if row.shapes != shapes:  # equal ones, at one place, are equal work
            row.shapes = shapes
            row.each = (
                operations(primitive.name, arrays, static, data),
                moved(primitive.name, arrays, data),
            )
        row.calls += 1
        row.seconds += ended - self._began
        row.operations += row.each[0]
        row.bytes += row.each[1]
        self._own += perf_counter() - ended

    def before_effect(self, function: Any, arrays: Sequence[Array]) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def after_effect(self, function: Any, arrays: Sequence[Array]) -> None:
        """Stop the clock, and add the time to the row of the optimizer, or of whom."""
        ended = perf_counter()
        owner = type(getattr(function, "__self__", function))
        row = self._found.setdefault((owner, None), Row(owner.__name__))
        row.calls += 1
        row.seconds += ended - self._began
        self._own += perf_counter() - ended


def _nothing_of(name: str, kind: str) -> dict[str, Any]:
    numbers = ("seconds", "share", "forward", "backward", "operations", "bytes")
    return {
        "layer": name,
        "kind": kind,
        **dict.fromkeys((*numbers, "least_seconds"), 0),
    }
