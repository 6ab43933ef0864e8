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

from sillar.backends.base import Array
from sillar.backends.numpy import threads
from sillar.backends.numpy.crew import Processes, Threads
from sillar.backends.numpy.inserted import add_up, cut_out, effect, line, load, same
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
from sillar.backends.numpy.stretch import Stretches, stretches
from sillar.backends.numpy.work import work

WORTH = 2e7  # arithmetic operations that take longer than to start another thread


def compile_parts(
    trace: Any, calls: Sequence[Any], backend: Any, *, count: int, reuse: bool
) -> Callable[..., Any] | None:
    """Return the step in `count` parts; None if that would not be faster."""
    if not any(state for state in _cut_arguments(trace).values()):
        return None
    homes, calls = settle(trace, calls, backend)
    alone = threads.processes()
    try:
        schedule = _Schedule(trace, calls, homes, count if alone else 1)
    except EntangledError:
        return None
    if schedule.n < 2 * count or not schedule.pays(count):
        return None

    def built(schedule: _Schedule, crew: Threads | Processes) -> Callable[..., Any]:
        return _Builder(trace, schedule, backend, count, crew).function(reuse)

    def by_threads() -> Callable[..., Any]:
        return built(_Schedule(trace, calls, homes, 1), Threads())

    return built(schedule, Processes(by_threads)) if alone else by_threads()


def _cut_arguments(trace: Any) -> dict[int, State]:
    """Return how each argument is cut: those as long as the first one are a batch."""
    shapes = {i: trace.kinds[i][0] for i in trace.arguments}
    n = next((shape[0] for shape in shapes.values() if shape), 0)
    return {i: Cut(0) if n > 1 and s[:1] == (n,) else None for i, s in shapes.items()}


class _Placed(NamedTuple):
    """A call and how it is split; None if the main thread does it."""

    call: Any
    split: Split | Stretches | None


class _Schedule:
    """In which stage each call is done; the odd stages are those in parts.

    Effects are done by `count` processes if they can be, or by one.
    """

    def __init__(
        self, trace: Any, calls: Sequence[Any], homes: dict[int, Array], count: int
    ) -> None:
        self.count, self.stretches = count, list[Stretches]()
        self.sums: dict[int, int] = {}  # what parts know as a value's sum: the value
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
        stages = self.last + 1 - 2 * len(self.stretches)
        return self.work > WORTH * stages * count

    def _place(self, call: Any) -> None:
        divides = call.effect and self.count > 1 and len(call.inputs) == 1
        shares = stretches(call.effect, self.count) if divides else None
        if shares is not None:
            self._stretch(call, shares)
        else:
            self._place_call(*self._split(call))

    def _place_call(self, call: Any, found: Split | None) -> None:
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

    def _stretch(self, call: Any, shares: Stretches) -> None:
        """Place an effect that every part does a share of."""
        inputs = tuple(self._sum(i) if self.states.get(i) else i for i in call.inputs)
        after = [self._ready(i, True) for i in inputs]
        stage = max(*after, self.fence + 1, self.read + 1)
        self.fence = stage + 1
        self.stretches.append(shares)
        placed = _Placed(call._replace(inputs=inputs), shares)
        self.stages.setdefault(stage, []).append(placed)

    def _sum(self, i: int) -> int:
        """Return the number under which parts know all of a value that is in parts."""
        number = len(self.kinds)
        self.kinds.append(self.kinds[i])
        self.sums[number], self.made_in[number] = i, self._ready(i, False)
        return number

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
            self._place(load(same, i, self.totals[i]))
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
        boxes = {i: crew.empty(*self.kinds[i]) for i in self._crossing()}
        self.boxes = boxes | {i: boxes[k] for i, k in schedule.sums.items()}
        self.seen = crew.see({i: schedule.constants[i] for i in self._looked_at()})
        self.parts = [_Part(self, k, share) for k, share in enumerate(self.shares)]

    def function(self, reuse: bool) -> Callable[..., Any]:
        """Return the function of the trace's arguments that runs all stages."""
        run = self._main(reuse)
        parts = [part.function() for part in self.parts]
        kinds = [self.kinds[i] for i in self.trace.arguments]
        held = [shares.hold for shares in self.schedule.stretches]
        return self.crew.function(run, parts, kinds, self._after_effects(), held)

    def _after_effects(self) -> set[int]:
        """Return the stages in parts before which an effect may write a constant."""
        return {
            stage + 1
            for stage, placed in self.schedule.stages.items()
            if stage % 2 == 0 and any(call.effect is not None for call, _ in placed)
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
        return found - self.schedule.sums.keys()

    def _main(self, reuse: bool) -> Callable[..., Any]:
        calls: list[Any] = []
        for stage in range(self.schedule.last + 1):
            placed = self.schedule.stages.get(stage, ())
            if stage % 2:
                shared = [p.split for p in placed if isinstance(p.split, Stretches)]
                calls += [effect(shares.note) for shares in shared]
                calls.append(line("advance()"))
                calls += self._sums(stage)
                calls += [effect(shares.work.done) for shares in shared]
            else:
                calls += [p.call for p in placed]
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
                found.append(effect(partial(add_up, terms, self.boxes[i])))
        return found


class _Part:
    """One share of the batch: its calls, on its own values."""

    def __init__(self, builder: _Builder, number: int, share: slice) -> None:
        self.builder, self.number, self.share = builder, number, share
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
                if isinstance(found, Stretches):
                    call = call._replace(effect=found.shares[self.number])
                    self.calls.append(call)
                else:
                    assert found is not None
                    self._add(call, found)
            self.calls.append(line("yield"))
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
                cut = partial(cut_out, axis=axis, share=share)
                self.calls.append(load(cut, i, number))
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
