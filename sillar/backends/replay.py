"""A trace replayed call by call, for back ends whose `compile` has nothing better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sillar.backends.base import Array, Backend

Step = tuple[Any, tuple[int, ...], tuple[int, ...]]


class Work(NamedTuple):
    """What an effect does to arrays, apart from what it does in Python.

    `run(*inputs, *numbers())` writes to `arrays` and nothing else. It may be part of a
    program that is kept while the cells of `arrays` and `known` are the same;
    `numbers` go in at each call, and `done()` notes in Python that it has happened.
    If it does the same to each element of vectors, `stretch(place)` returns `run` of
    one input for those at a place alone, a slice.
    """

    arrays: tuple[Array, ...]
    run: Callable[..., None]
    numbers: Callable[[], tuple[float, ...]] = tuple
    done: Callable[[], None] = lambda: None
    known: Any = None
    stretch: Callable[[slice], Callable[..., None]] | None = None


def work_of(effect: Any) -> Work | None:
    """Return an effect's work on arrays; None if its Python has to run each time."""
    if getattr(effect, "in_place", False):
        return Work((effect.__self__.data,), effect)
    work: Any = getattr(effect, "work", None)
    found: Work | None = None if work is None else work(effect.__self__)
    return found


class Replay:
    """The live calls of a trace in their order, without what recorded them."""

    def __init__(self, backend: Backend, trace: Any) -> None:
        self.backend, self.trace = backend, trace
        self.values: list[Any] = [None] * len(trace.kinds)
        for number, constant in trace.constants.items():
            self.values[number] = constant
        self.steps = self._steps()

    def __call__(self, *arguments: Array) -> tuple[Array, ...]:
        """Return the outputs for other arguments."""
        values = self.values.copy()
        for number, argument in zip(self.trace.arguments, arguments, strict=True):
            values[number] = argument
        self.run(self.steps, values)
        return tuple(values[i] for i in self.trace.outputs)

    def run(self, steps: list[Step], values: list[Any]) -> None:
        """Make the calls, and let go of each value after its last use."""
        for call, places, dead in steps:
            given = [values[i] for i in places]
            if call.effect is not None:
                self.affect(call.effect, given)
            else:
                made = call.primitive.forward(self.backend, *given, **call.static)
                values[call.output] = made
            for i in dead:
                values[i] = None

    def affect(self, effect: Callable[..., None], given: list[Any]) -> None:
        """Do what a call is made for that returns nothing."""
        effect(*given)

    def _steps(self) -> list[Step]:
        """Return each call, the places of its inputs, and what it uses last."""
        kept, steps = {*self.trace.constants, *self.trace.outputs}, []
        for call in reversed(self.trace.live_calls()):
            numbers = {i for i in call.inputs if not isinstance(i, tuple)}
            steps.append((call, tuple(map(self._place, call.inputs)), numbers - kept))
            kept |= numbers
        return [(call, places, tuple(dead)) for call, places, dead in reversed(steps)]

    def _place(self, number: Any) -> int:
        """Return where an input is kept; a Python number gets a place of its own."""
        if not isinstance(number, tuple):
            return int(number)
        self.values.append(number[0])
        return len(self.values) - 1


class Recorded(Replay):
    """A trace whose stretches of calls without effects on Python are recorded.

    `record(run)` returns what repeats run() on the same memory, or None where it cannot
    be recorded; nor is then what follows. The first call runs as it stands, and the
    second is recorded.
    """

    def __init__(
        self, backend: Any, trace: Any, record: Callable[..., Any], *, reuse: bool
    ) -> None:
        super().__init__(backend, trace)
        self.record, self.reuse, self.warm = record, reuse, False
        self.stretches = _stretches(self.steps)
        self.recordings: list[Any] = []
        self.inputs: dict[int, Array] = {}
        self.refused = False

    def __call__(self, *arguments: Array) -> tuple[Array, ...]:
        if not self.warm:
            self.warm = True
            return super().__call__(*arguments)
        for number, argument in zip(self.trace.arguments, arguments, strict=True):
            if number in self.inputs:
                self.backend.assign(self.inputs[number], argument)
            else:
                self.inputs[number] = self.backend.copy(self.backend.asarray(argument))
            self.values[number] = self.inputs[number]
        values = self.values.copy()
        for i, steps in enumerate(self.stretches):
            if i == len(self.recordings):
                self.recordings.append(self._recording(steps, values))
            if self.recordings[i] is None:
                self.run(steps, values)
            else:
                self.recordings[i]()
        found = tuple(values[i] for i in self.trace.outputs)
        return found if self.reuse else tuple(self.backend.copy(a) for a in found)

    def _recording(self, steps: list[Step], values: list[Any]) -> Any:
        """Return what repeats these calls, and keep the memory that they write to."""
        if self.refused or not steps or not _on_device(steps[0]):
            return None
        made = values.copy()
        recording = self.record(lambda: self.run(steps, made))
        self.refused = recording is None  # what follows reads memory that moves
        if not self.refused:
            for call, _, _ in steps:
                if call.output is not None:
                    self.values[call.output] = values[call.output] = made[call.output]
        return recording


def _stretches(steps: list[Step]) -> list[list[Step]]:
    """Return the calls in order, cut around each effect on Python."""
    parts: list[list[Step]] = [[]]
    for step in steps:
        if _on_device(step):
            parts[-1].append(step)
        else:
            parts.extend(([step], []))
    return parts


def _on_device(step: Step) -> bool:
    """Say whether a call does nothing but compute and write on the device."""
    effect = step[0].effect
    return effect is None or getattr(effect, "in_place", False)
