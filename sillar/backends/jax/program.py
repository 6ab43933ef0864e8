"""Traces and rules as XLA programs, what they write to going in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Any, ClassVar

import jax
from jax import numpy as jnp

from sillar.backends.base import Array, Backend
from sillar.backends.jax.cell import Cell, raw
from sillar.backends.replay import Replay, Work, work_of

PROGRAMS = 64  # that are kept


class Program(Replay):
    """A trace as one XLA program: cells that it reads go in, those it writes come out.

    The arrays of the latter are given away (donated), so that XLA writes over them.
    Equal traces, as those of two epochs, share what XLA made of the first.
    """

    known: ClassVar[dict[Any, Program]] = {}
    lock: ClassVar[Lock] = Lock()  # an array is given away once

    def __init__(self, backend: Backend, trace: Any) -> None:
        super().__init__(backend, trace)
        checks, writes = _effects(trace)
        place = trace.arguments.index
        self.checks = [(c.effect, [*map(place, c.inputs)]) for c in checks]
        self.effects = [call.effect for call in writes]
        apart = set(map(id, checks))
        self.steps = [step for step in self.steps if id(step[0]) not in apart]
        self.turns: Iterator[Any] = iter(())
        self.program = jax.jit(self._traced, static_argnums=4, donate_argnums=2)
        self._find_cells()

    def __call__(self, *arguments: Array) -> tuple[Array, ...]:
        for check, places in self.checks:
            check(*(arguments[i] for i in places))
        given = [raw(a) for a in arguments]
        works = self._works()
        numbers = [work.numbers() for work in works]
        known = tuple(work.known for work in works)
        with self.lock:
            read = [cell._value for cell in self.read]
            written = [cell.give() for cell in self.written]
            program = self.model.program
            found, new = program(numbers, given, written, read, known)
            for cell, value in zip(self.written, new, strict=True):
                cell.take(value)
        for work in works:
            work.done()
        return tuple(map(Cell, found))

    def _works(self) -> list[Work]:
        """Return the effects' work, after a look whether it is on the same cells."""
        works: Any = [work_of(effect) for effect in self.effects]
        if list(_roots(a for w in works for a in w.arrays)) != self.places:
            self._find_cells()
        return list(works)

    def _find_cells(self) -> None:
        works: Any = [work_of(effect) for effect in self.effects]
        written = _roots(a for w in works for a in w.arrays)
        held = _roots(v for v in self.values if type(v) is Cell)
        self.places = list(written)
        self.written = list(written.values())
        self.read = [cell for i, cell in held.items() if i not in written]
        places = {key: i for i, key in enumerate([*written, *map(id, self.read)])}
        key = _key_of(self.trace, places), tuple(written)
        self.model = self.known.setdefault(key, self)
        while len(self.known) > PROGRAMS:
            self.known.pop(next(iter(self.known)))

    def _traced(
        self, numbers: Any, arguments: Any, written: Any, read: Any, known: Any
    ) -> Any:
        cells = self.written + self.read
        before = [(cell._value, cell.shared) for cell in cells]
        works = [work_of(effect) for effect in self.effects]
        self.turns = zip(works, numbers, strict=True)
        try:
            for cell, value in zip(cells, written + read, strict=True):
                cell._value = value
            found = [raw(x) for x in super().__call__(*map(Cell, arguments))]
            return found, _apart([cell._value for cell in self.written], found + read)
        finally:
            for cell, (value, shared) in zip(cells, before, strict=True):
                cell._value, cell.shared = value, shared

    def affect(self, effect: Any, given: list[Any]) -> None:
        """Do an effect's work with the numbers of this call."""
        work, numbers = next(self.turns)
        work.run(*given, *numbers)


def one_program(trace: Any) -> bool:
    """Say whether all that a trace does can be a program; no owner counts twice."""
    effects = [call.effect for call in _effects(trace)[1]]
    counting = [id(_owner(e)) for e in effects if hasattr(e, "work")]
    twice = len(set(counting)) < len(counting)
    return not twice and None not in map(work_of, effects)


def _owner(effect: Any) -> Any:
    """Return what a method is of; None for a function."""
    return getattr(effect, "__self__", None)


def _effects(trace: Any) -> tuple[list[Any], list[Any]]:
    """Return the calls that check arguments, in Python before, and those that write."""
    arguments = set(trace.arguments)
    checks: list[Any] = []
    writes: list[Any] = []
    for call in trace.live_calls():
        if call.effect is not None:
            given = arguments.issuperset(call.inputs)
            plain = given and not hasattr(call.effect, "work")
            (checks if plain and work_of(call.effect) is None else writes).append(call)
    return checks, writes


def _roots(cells: Iterable[Cell]) -> dict[int, Cell]:
    """Return the cells that these are, or are stretches of, by their ids."""
    roots = (cell if cell.base is None else cell.base for cell in cells)
    return {id(root): root for root in roots}


def _apart(values: list[Any], others: list[Any]) -> list[Any]:
    """Return the values, copied where one is another too: each gets its own memory."""
    seen = set(map(id, others))
    apart = []
    for value in values:
        apart.append(jnp.copy(value) if id(value) in seen else value)
        seen.add(id(value))
    return apart


def ruled(
    update: Callable[..., Any], p: Any, g: Any, s: dict[str, Any], lr: Any, t: Any
) -> Any:
    """Return what a rule makes of JAX's arrays; `lr` and `t` take the others' types."""
    state = {name: Cell(a) for name, a in s.items()}
    moved, new = update(Cell(p), Cell(g), state, lr, t)
    return raw(moved), {name: raw(a) for name, a in new.items()}


def _key_of(trace: Any, places: dict[int, int]) -> Any:
    """Return what two traces have in common if one program does for both."""

    def known(v: Any) -> Any:
        if type(v) is not Cell:
            return id(v)
        return places[id(v if v.base is None else v.base)], v.start, v.shape

    steps = (
        (id(c.primitive or _owner(c.effect)), c.inputs, c.output, repr(c.static))
        for c in trace.live_calls()
    )
    constants = ((i, known(v)) for i, v in trace.constants.items())
    ends = *trace.arguments, None, *trace.outputs
    return tuple(steps), tuple(constants), repr(trace.kinds), ends
