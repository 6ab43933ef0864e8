"""Traces and rules as XLA programs, what they write to going in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax

from sillar.backends.base import Array, Backend
from sillar.backends.jax.cell import Cell, raw
from sillar.backends.replay import Replay

PROGRAMS = 64  # that are kept


class Program(Replay):
    """A trace as one XLA program: cells that it reads go in, those it writes come out.

    Equal traces, as those of two epochs, share what XLA made of the first.
    """

    known: ClassVar[dict[Any, Program]] = {}

    def __init__(self, backend: Backend, trace: Any) -> None:
        super().__init__(backend, trace)
        calls = trace.live_calls()
        held = [v for v in self.values if type(v) is Cell]
        held += [c.effect.__self__.data for c in calls if c.effect is not None]
        roots = {id(r): r for r in (v if v.base is None else v.base for v in held)}
        self.cells: list[Cell] = list(roots.values())
        self.written: list[int] = []
        self.program = jax.jit(self._traced)
        places = {key: place for place, key in enumerate(roots)}
        self.model = self.known.setdefault(_key_of(trace, calls, places), self)
        while len(self.known) > PROGRAMS:
            self.known.pop(next(iter(self.known)))

    def __call__(self, *arguments: Array) -> tuple[Array, ...]:
        given = [raw(a) for a in arguments]
        found, new = self.model.program(given, [cell._value for cell in self.cells])
        for place, value in zip(self.model.written, new, strict=True):
            self.cells[place]._value = value
        return tuple(map(Cell, found))

    def _traced(self, arguments: list[Any], state: list[Any]) -> Any:
        before = [cell._value for cell in self.cells]
        try:
            for cell, value in zip(self.cells, state, strict=True):
                cell._value = value
            found = super().__call__(*map(Cell, arguments))
            now = [cell._value for cell in self.cells]
        finally:
            for cell, value in zip(self.cells, before, strict=True):
                cell._value = value
        self.written = [i for i, v in enumerate(now) if v is not state[i]]
        return [raw(x) for x in found], [now[i] for i in self.written]


def ruled(
    update: Callable[..., Any], p: Any, g: Any, s: dict[str, Any], lr: Any, t: Any
) -> Any:
    """Return what a rule makes of JAX's arrays; `lr` and `t` take the others' types."""
    state = {name: Cell(a) for name, a in s.items()}
    moved, new = update(Cell(p), Cell(g), state, lr, t)
    return raw(moved), {name: raw(a) for name, a in new.items()}


def _key_of(trace: Any, calls: Any, places: dict[int, int]) -> Any:
    """Return what two traces have in common if one program does for both."""

    def known(v: Any) -> Any:
        if type(v) is not Cell:
            return id(v)
        return places[id(v if v.base is None else v.base)], v.start, v.shape

    steps = (
        (id(c.primitive or c.effect.__self__), c.inputs, c.output, repr(c.static))
        for c in calls
    )
    constants = ((i, known(v)) for i, v in trace.constants.items())
    ends = *trace.arguments, None, *trace.outputs
    return tuple(steps), tuple(constants), repr(trace.kinds), ends
