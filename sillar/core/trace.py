"""A step written down: which functions it calls, on which values, in which order."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sillar.backends import Array
from sillar.core.dtypes import SCALARS
from sillar.core.listen import Listener
from sillar.core.parameter import Parameter
from sillar.core.rng import Rng
from sillar.core.state import recording
from sillar.core.tensor import Tensor
from sillar.errors import CompileError


class Call(NamedTuple):
    """One call: `inputs` are numbers of values, or scalars, each in a tuple of one.

    An effect, such as writing a running mean, has no primitive and no output.
    """

    primitive: Any
    inputs: tuple[Any, ...]
    static: dict[str, Any]
    output: int | None
    effect: Callable[..., None] | None = None


class Trace(Listener):
    """The calls of a step, over numbered values.

    The values of `arguments` change from call to call, the first of them given by the
    caller, the rest the `keys` that his generators split off. What is neither an
    argument nor the output of a call is a constant, among them the parameters. Calls
    from number `turn` on are made for a gradient, or after it. A `dry` trace has no
    effects; they are left to replays.
    """

    def __init__(self, *, dry: bool = False) -> None:
        self.dry = dry
        self.turn: int | None = None
        self.kinds: list[tuple[tuple[int, ...], Any]] = []  # shape and dtype by number
        self.constants: dict[int, Array] = {}
        self.calls: list[Call] = []
        self.arguments: list[int] = []
        self.keys: list[tuple[int, tuple[tuple[Any, ...], ...]]] = []
        self.outputs: list[int] = []
        self.parameters: dict[int, tuple[Parameter, Array]] = {}
        self._numbers: dict[int, tuple[int, Callable[[], Any]]] = {}

    def __enter__(self) -> Any:
        recording.trace = self
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        recording.trace = None

    def number(self, value: Array) -> int:
        """Return the number of a value; one never seen before is a constant."""
        known, remembered = self._numbers.get(id(value), (0, _nothing))
        if remembered() is not value:
            known = self._new(value, lambda: value)
            self.constants[known] = value
        return known

    def argument(self, value: Array) -> None:
        """Add an argument, which has this value in the traced call."""
        self.arguments.append(self._new(value, lambda: value))

    def _new(self, value: Array, remembered: Callable[[], Any]) -> int:
        number = len(self.kinds)
        self.kinds.append((tuple(value.shape), value.dtype))
        self._numbers[id(value)] = number, remembered
        return number

    def after(
        self,
        primitive: Any,
        args: Sequence[Any],
        arrays: Sequence[Array],
        static: dict[str, Any],
        out: Tensor,
    ) -> None:
        """Write down a primitive's call; one that returned its input did nothing."""
        for arg in args:
            if isinstance(arg, Parameter):
                self.parameters[id(arg)] = arg, arg.data
        inputs = self._inputs(arrays)
        if self.turn is None and recording.differentiated is not None:
            self.turn = len(self.calls)
        if not any(out.data is array for array in arrays):
            number = self._new(out.data, _reference(out.data))
            self.calls.append(Call(primitive, inputs, static, number))

    def record_effect(self, effect: Callable[..., None], arrays: Sequence[Any]) -> None:
        """Write down a call for what it does, not for what it returns."""
        self.calls.append(Call(None, self._inputs(arrays), {}, None, effect))

    def live_calls(self) -> list[Call]:
        """Return the calls that an output or an effect depends on, in order."""
        needed = set(self.outputs)
        kept = []
        for call in reversed(self.calls):
            if call.effect is not None or call.output in needed:
                needed.update(i for i in call.inputs if not isinstance(i, tuple))
                kept.append(call)
        return kept[::-1]

    def _inputs(self, arrays: Sequence[Array]) -> tuple[Any, ...]:
        return tuple((a,) if type(a) in SCALARS else self.number(a) for a in arrays)


def _nothing() -> None:
    return None


def _reference(value: Array) -> Callable[[], Any]:
    """Return what gives `value` back while it lives; it may die while tracing."""
    try:
        return weakref.ref(value)
    except TypeError:  # a NumPy scalar
        return lambda: value


class TracedRng(Rng):
    """A generator among a step's arguments: what is split off it is split anew."""

    __slots__ = ("_own", "path", "place", "trace")

    def __init__(
        self, rng: Rng, trace: Trace, place: int, path: tuple[tuple[Any, ...], ...] = ()
    ) -> None:
        self._own, self.trace, self.place, self.path = rng, trace, place, path

    @property
    def key(self) -> Any:
        """Return the key, and note that the step needs it."""
        self.trace.keys.append((self.place, self.path))
        key = self._own.key.copy()
        self.trace.argument(key)
        return key

    def split(self, *purpose: str | int) -> TracedRng:
        """Return the key for a purpose."""
        child = self._own.split(*purpose)
        return TracedRng(child, self.trace, self.place, (*self.path, purpose))

    def generator(self) -> Any:
        """Refuse: a draw on the host would be the same at each replay."""
        raise CompileError(
            "compile: a draw from an Rng inside a step happens on the host, once: draw"
            " with sillar.core.ops.random_uniform(rng.key, ...), or outside the step"
        )
