"""A traced step in parts: each process or thread does its share of the batch.

`split` says which calls can be done part by part. What cannot, the sums over parts
among it, is done in between by the main thread, while the others wait. So a step is a
sequence of stages, whole and in parts by turns. Each part has memory of its own; what
one of them leaves for the main thread, or it for them, lies in boxes that both know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import threads
from sillar.backends.numpy.crew import Processes, Threads
from sillar.backends.numpy.plan import VIEWS, Writer, settle
from sillar.backends.numpy.split import (
    Cut,
    EntangledError,
    Given,
    Split,
    State,
    Term,
    part_of,
    split,
)
from sillar.backends.numpy.work import work

WORTH = 2e7  # arithmetic operations that take longer than to start another thread


def compile_parts(
    trace: Any, calls: Sequence[Any], backend: Any, *, count: int, reuse: bool
) -> Callable[..., Any] | None:
    """Return the step in `count` parts; None if that would not be faster."""
    if any(state for state in _cut_arguments(trace).values()):
        homes, calls = settle(trace, calls, backend)
        try:
            schedule = _Schedule(trace, calls, homes)
        except EntangledError:
            return None
        if schedule.n >= 2 * count and schedule.pays(count):
            return _in_crew(trace, schedule, backend, count=count, reuse=reuse)
    return None


def _in_crew(
    trace: Any, schedule: _Schedule, backend: Any, *, count: int, reuse: bool
) -> Callable[..., Any]:
    """Return the step in parts, done by processes where that can be, or by threads."""

    def built(crew: Threads | Processes) -> Callable[..., Any]:
        return _Builder(trace, schedule, backend, count, crew).function(reuse)

    if threads.processes():
        return built(Processes(otherwise=lambda: built(Threads())))
    return built(Threads())


def _cut_arguments(trace: Any) -> dict[int, State]:
    """Return how each argument is cut: those as long as the first one are a batch."""
    shapes = {i: trace.kinds[i][0] for i in trace.arguments}
    n = next((shape[0] for shape in shapes.values() if shape), 0)
    return {i: Cut(0) if n > 1 and s[:1] == (n,) else None for i, s in shapes.items()}


class _Placed(NamedTuple):
    """A call and how it is split; None if the main thread does it."""

    call: Any
    split: Split | None


class _Schedule:
    """In which stage each call is done; the odd stages are those in parts."""

    def __init__(
        self, trace: Any, calls: Sequence[Any], homes: dict[int, Array]
    ) -> None:
        self.trace, self.kinds, self.constants = trace, [*trace.kinds], homes
        self.states: dict[int, State] = _cut_arguments(trace)
        first = next(i for i, s in self.states.items() if s)
        self.n = self.kinds[first][0][0]
        self.arguments = set(trace.arguments)
        self.made_in: dict[int, int] = {}
        self.stages: dict[int, list[_Placed]] = {}
        self.whole: set[int] = set()  # values of parts that somebody needs whole
        self.lasting = set(homes)  # what an effect may write
        self.totals: dict[int, int] = {}  # of sums over parts that parts need
        self.fence = self.read = 0
        self.work = 0
        for call in calls:
            self._place(call)
        self.whole |= {i for i in trace.outputs if self.states.get(i)}
        self.whole -= self.arguments
        self.last = max(self.stages, default=0)
        self.last += any(self.made_in.get(i) == self.last for i in self.whole)
        self.last += self.last % 2  # the main thread has the last word

    def pays(self, count: int) -> bool:
        """Say whether every stage in parts has enough to do."""
        return self.work > WORTH * (self.last + 1) * count

    def _place(self, call: Any) -> None:
        call, found = self._split(call)
        stage = 0 if found is None else 1
        for i in call.inputs:
            if not isinstance(i, tuple):
                stage = max(stage, self._ready(i, found is not None))
        if any(i in self.lasting for i in call.inputs if not isinstance(i, tuple)):
            stage = max(stage, self.fence + (found is not None))
            self.read = max(self.read, stage + stage % 2)
        if call.effect is not None:
            stage = self.fence = max(stage, self.fence, self.read)
        elif call.primitive.name in VIEWS and call.inputs[0] in self.lasting:
            self.lasting.add(call.output)
        self.stages.setdefault(stage, []).append(_Placed(call, found))
        if call.output is not None:
            self.made_in[call.output] = stage
            self.states[call.output] = found and found.state

    def _split(self, call: Any) -> tuple[Any, Split | None]:
        """Return the call, with totals for what it needs them of, and how it splits."""
        if call.primitive is None:
            return call, None
        inputs, name = call.inputs, call.primitive.name
        states = [None if isinstance(i, tuple) else self.states.get(i) for i in inputs]
        shapes = [() if isinstance(i, tuple) else self.kinds[i][0] for i in inputs]
        given = Given(self.n, states, shapes, self.kinds[call.output][0], call.static)
        self.work += work(name, shapes, given.out)
        found = split(name, given)
        if found is None and any(isinstance(state, Cut) for state in states):
            cuts: list[State] = [
                state if isinstance(state, Cut) else None for state in states
            ]
            found = split(name, given._replace(states=cuts))
            if found is not None:
                terms = [isinstance(state, Term) for state in states]
                pairs = zip(inputs, terms, strict=True)
                totals = (self._total(i) if term else i for i, term in pairs)
                call = call._replace(inputs=tuple(totals))
        return call, found

    def _total(self, i: int) -> int:
        """Return the number of what the main thread makes of the terms of value i."""
        if i not in self.totals:
            self.totals[i] = len(self.kinds)
            self.kinds.append(self.kinds[i])
            self._place(_load(_same, i, self.totals[i]))
        return self.totals[i]

    def _ready(self, i: int, in_parts: bool) -> int:
        """Return the first stage in which a call can use value i."""
        state, made = self.states.get(i), self.made_in.get(i, 0)
        if i in self.arguments or state is None:
            return made + (in_parts and made % 2 == 0)
        if in_parts:
            return made
        self.whole.add(i)
        return made + 1


class _Builder:
    """Writes the main thread's function and one for each part."""

    def __init__(
        self,
        trace: Any,
        schedule: _Schedule,
        backend: Any,
        count: int,
        crew: Threads | Processes,
    ) -> None:
        self.trace, self.schedule, self.backend = trace, schedule, backend
        self.crew = crew
        bounds = [schedule.n * k // count for k in range(count + 1)]
        self.shares = [slice(*pair) for pair in pairwise(bounds)]
        self.constants = schedule.constants
        self.kinds = schedule.kinds
        self.boxes = {i: crew.empty(*self.kinds[i]) for i in self._crossing()}
        self.seen = crew.see({i: schedule.constants[i] for i in self._looked_at()})
        self.parts = [_Part(self, share) for share in self.shares]

    def function(self, reuse: bool) -> Callable[..., Any]:
        """Return the function of the trace's arguments that runs all stages."""
        run = self._main(reuse)
        parts = [part.function() for part in self.parts]
        kinds = [self.kinds[i] for i in self.trace.arguments]
        return self.crew.function(run, parts, kinds, self._after_effects())

    def _after_effects(self) -> set[int]:
        """Return the stages in parts before which an effect may write a constant."""
        return {
            stage + 1
            for stage, placed in self.schedule.stages.items()
            if any(call.effect is not None for call, _ in placed)
        }

    def _looked_at(self) -> set[int]:
        """Return the constants that calls in parts take."""
        placed = (p for k, ps in self.schedule.stages.items() if k % 2 for p in ps)
        taken = {i for p in placed for i in p.call.inputs if not isinstance(i, tuple)}
        return taken & self.constants.keys()

    def _crossing(self) -> set[int]:
        """Return the values that pass between the main thread and the parts."""
        found = set(self.schedule.whole)
        for stage, placed in self.schedule.stages.items():
            if stage % 2 == 0:
                continue
            for call, _ in placed:
                for i in call.inputs:
                    whole = not isinstance(i, tuple) and not self.schedule.states.get(i)
                    if whole and i in self.schedule.made_in:
                        found.add(i)
        return found

    def _main(self, reuse: bool) -> Callable[..., Any]:
        calls: list[Any] = []
        for stage in range(self.schedule.last + 1):
            if stage % 2:
                calls.append(_line("advance()"))
                calls += self._sums(stage)
            else:
                calls += [p.call for p in self.schedule.stages.get(stage, ())]
        own = {c.output for c in calls}
        writer = Writer(
            calls,
            self.kinds,
            self.backend,
            homes={**self.constants},
            given=self.trace.arguments,
            outputs=self.trace.outputs,
            boxes={i: box for i, box in self.boxes.items() if i in own},
        )
        writer.home |= {i: box for i, box in self.boxes.items() if i not in own}
        return writer.function(
            self.trace.arguments, self.trace.outputs, reuse=reuse, more=["advance"]
        )

    def _sums(self, stage: int) -> list[Any]:
        """Return the calls that add up what the parts made in a stage."""
        found = []
        for i in sorted(self.schedule.whole):
            if self.schedule.made_in[i] == stage and self.schedule.states[i] == Term():
                terms = [part.boxes[i] for part in self.parts]
                found.append(_effect(partial(_add_up, terms, self.boxes[i])))
        return found


class _Part:
    """One share of the batch: its calls, on its own values."""

    def __init__(self, builder: _Builder, share: slice) -> None:
        self.builder, self.share = builder, share
        self.schedule = builder.schedule
        self.kinds = [
            (self._cut_shape(i, shape), dtype)
            for i, (shape, dtype) in enumerate(builder.kinds)
        ]
        self.boxes: dict[int, Array] = {}
        for i in self.schedule.whole:
            state = self.schedule.states[i]
            if isinstance(state, Cut):
                box = builder.boxes[i]
                self.boxes[i] = part_of(box, state.axis, self._scaled(state.unit))
            else:
                self.boxes[i] = builder.crew.empty(*self.kinds[i])
        self.homes = dict(builder.seen)
        own = self.schedule.whole
        self.homes |= {i: b for i, b in builder.boxes.items() if i not in own}
        self.pieces: dict[tuple[int, int], int] = {}
        self.calls: list[Any] = []

    def function(self) -> Callable[..., Any]:
        """Return a generator that does one stage at a time."""
        for stage in range(1, self.schedule.last + 1, 2):
            for call, found in self.schedule.stages.get(stage, ()):
                assert found is not None
                self._add(call, found)
            self.calls.append(_line("yield"))
        given = self.builder.trace.arguments
        writer = Writer(
            self.calls,
            self.kinds,
            self.builder.backend,
            homes=self.homes,
            given=given,
            boxes=self.boxes,
            wider=self.builder.crew.wider,
        )
        return writer.function(given, (), reuse=True)

    def _add(self, call: Any, found: Split) -> None:
        inputs = [
            i if isinstance(i, tuple) else self._piece(i, axis)
            for i, axis in zip(call.inputs, found.axes, strict=True)
        ]
        static = call.static
        if "shape" in static and isinstance(found.state, Cut):
            static = {**static, "shape": self.kinds[call.output][0]}
        self.calls.append(call._replace(inputs=tuple(inputs), static=static))

    def _piece(self, i: int, axis: int | None) -> int:
        """Return the number of what this part uses of value i."""
        state = self.schedule.states.get(i)
        if state and i not in self.schedule.arguments:
            return i
        axis = state.axis if isinstance(state, Cut) else axis
        shape, dtype = self.builder.kinds[i]
        if axis is None or shape[axis] == 1:
            return i
        if (i, axis) not in self.pieces:
            share = self._scaled(shape[axis] // self.schedule.n)
            number = self.pieces[i, axis] = len(self.kinds)
            size = share.stop - share.start
            self.kinds.append(((*shape[:axis], size, *shape[axis + 1 :]), dtype))
            if i in self.homes:
                self.homes[number] = part_of(self.homes[i], axis, share)
            else:
                cut = partial(_cut_out, axis=axis, share=share)
                self.calls.append(_load(cut, i, number))
        return self.pieces[i, axis]

    def _cut_shape(self, i: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        state = self.schedule.states.get(i)
        if not isinstance(state, Cut) or i in self.schedule.arguments:
            return shape
        share = self._scaled(state.unit)
        size = share.stop - share.start
        return (*shape[: state.axis], size, *shape[state.axis + 1 :])

    def _scaled(self, unit: int) -> slice:
        return slice(self.share.start * unit, self.share.stop * unit)


class _Step(NamedTuple):
    """A call that no trace recorded."""

    primitive: Any
    inputs: tuple[Any, ...]
    static: dict[str, Any]
    output: int | None
    effect: Any = None


class _Load(NamedTuple):
    """What takes the place of a primitive: it cuts a share out of an argument."""

    forward: Callable[..., Array]
    name: str = "load"


def _line(text: str) -> _Step:
    return _Step(None, (), {}, None, text)


def _effect(function: Callable[[], None]) -> _Step:
    return _Step(None, (), {}, None, function)


def _load(cut: Callable[..., Array], source: int, number: int) -> _Step:
    return _Step(_Load(cut), (source,), {}, number)


def _cut_out(backend: Any, array: Array, *, axis: int, share: slice) -> Array:
    return part_of(array, axis, share)


def _same(backend: Any, array: Array) -> Array:
    return array


def _add_up(terms: Sequence[Array], out: Array) -> None:
    np.add(terms[0], terms[1], out=out)
    for term in terms[2:]:
        np.add(out, term, out=out)
