"""A traced step as straight-line Python over NumPy's own functions.

Each value is a local variable and each call one line, so that a replayed call costs
little more than NumPy's own. A value is forgotten after its last use, and an
elementwise result takes the place of an operand that nobody needs any more: the same
pages are written again and again and stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy.source import function

# Primitives that are one function of NumPy with an `out` argument, by name.
ELEMENTWISE = {
    name: getattr(np, name)
    for name in (
        *("add", "subtract", "multiply", "divide", "negative", "exp", "expm1", "log"),
        *("log1p", "sqrt", "sin", "cos", "tanh", "sign", "maximum", "minimum"),
        *("absolute", "greater", "greater_equal", "less", "less_equal", "equal"),
    )
}
# Primitives whose result may share its first operand's memory.
VIEWS = frozenset(
    ("reshape", "transpose", "broadcast_to", "getitem", "astype", "einsum")
)


def compile_trace(trace: Any, backend: Any) -> Callable[..., tuple[Array, ...]]:
    """Return the function of the trace's arguments that replays it: its outputs."""
    calls = trace.live_calls()
    lines: list[str] = []
    names: dict[str, Any] = {}
    writer = _Writer(trace, calls)
    for place, call in enumerate(calls):
        function, operands = writer.call(place, call, backend)
        names[f"f{place}"] = function
        target = "" if call.output is None else f"v{call.output} = "
        lines.append(f"{target}f{place}({', '.join(operands)})")
        gone = writer.last_used(place)
        if gone:
            lines.append(f"del {', '.join(gone)}")
    made = {call.output for call in calls} | set(trace.arguments)
    used = {i for c in calls for i in c.inputs if not isinstance(i, tuple)}
    for i in (used | set(trace.outputs)) - made:
        names[f"v{i}"] = trace.constants[i]
    return _function(lines, names, trace.arguments, trace.outputs)


def _function(
    lines: Sequence[str],
    names: dict[str, Any],
    arguments: Sequence[int],
    outputs: Sequence[int],
) -> Callable[..., tuple[Array, ...]]:
    result = "".join(f"v{i}, " for i in outputs)
    given = [f"v{i}" for i in arguments]
    return function(given, [*lines, f"return ({result})"], names)


class _Writer:
    """Knows when each value is used last, and whose memory it shares."""

    def __init__(self, trace: Any, calls: Sequence[Any]) -> None:
        self.kinds = trace.kinds
        self.made = {call.output for call in calls if call.output is not None}
        self.owner = list(range(len(trace.kinds)))
        self.last: dict[int, int] = {}
        for place, call in enumerate(calls):
            if call.primitive is not None and call.primitive.name in VIEWS:
                self.owner[call.output] = self.owner[call.inputs[0]]
            for i in call.inputs:
                if not isinstance(i, tuple):
                    self.last[i] = self.last[self.owner[i]] = place
        for i in trace.outputs:
            self.last[i] = self.last[self.owner[i]] = len(calls)
        self.ends: dict[int, list[int]] = {}
        for i, place in self.last.items():
            self.ends.setdefault(place, []).append(i)

    def last_used(self, place: int) -> list[str]:
        """Return the names of made values that nothing after `place` uses."""
        gone = [i for i in self.ends.get(place, ()) if i in self.made]
        return [f"v{i}" for i in gone]

    def call(self, place: int, call: Any, backend: Any) -> tuple[Any, list[str]]:
        """Return the function of a call and its operands as text."""
        operands = [
            repr(i[0]) if isinstance(i, tuple) else f"v{i}" for i in call.inputs
        ]
        if call.effect is not None:
            return call.effect, operands
        name, static = call.primitive.name, call.static
        if name == "relu":
            name, operands = "maximum", [*operands, "0"]
        if name in ELEMENTWISE:
            spare = self._spare(place, call)
            if spare is not None:
                operands.append(f"out=v{spare}")
            return ELEMENTWISE[name], operands
        if name == "matmul":
            return np.matmul, operands
        if name == "sum":
            axis, keep = static.get("axis"), static.get("keepdims", False)
            return np.add.reduce, [*operands, f"{axis!r}, None, None, {keep!r}"]
        return partial(call.primitive.forward, backend, **static), operands

    def _spare(self, place: int, call: Any) -> int | None:
        """Return an operand whose memory the result of an elementwise call may take."""
        kind = self.kinds[call.output]
        if kind[0] == ():
            return None  # NumPy makes these scalars, not arrays
        for i in call.inputs:
            own = not isinstance(i, tuple) and i in self.made and self.owner[i] == i
            if own and self.kinds[i] == kind and self.last[i] == place:
                return int(i)
        return None
