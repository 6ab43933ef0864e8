"""Mixed precision: a traced step rewritten so that what waits is held in 16 bits.

The values that a forward pass leaves for the backward pass are most of a step's memory.
Here each of them is narrowed where it is made and widened where the backward pass first
needs it; in between only the half lives. Where a device has fast arithmetic in half,
the operands of products are the halves themselves. Weights, sums, statistics and losses
stay as they were, and no layer, rule or optimizer knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

from sillar.backends.base import Array, Backend

HALVES = ("bfloat16", "float16")
PRODUCTS = frozenset(  # primitives whose operands may be halves: they add in float32
    ("matmul", "einsum", "conv", "conv_input", "conv_weight")
)
VIEWS = frozenset(("reshape", "transpose", "broadcast_to", "getitem"))
CHEAP = frozenset(("add", "subtract", "multiply", "divide", "negative", "concat"))
PASSES = 2  # what is made again in so many cheap calls is not stored
LEAST = 1024  # elements: what is smaller is not worth two calls


class _Move(NamedTuple):
    """What takes the place of a primitive."""

    forward: Callable[..., Array]
    name: str


class _Call(NamedTuple):
    """A call that no trace recorded, as a trace has them."""

    primitive: Any
    inputs: tuple[Any, ...]
    static: dict[str, Any]
    output: int
    effect: None = None


def _narrow(xp: Any, x: Array, *, dtype: str) -> Array:
    return xp.narrow(x, dtype)


def _widen(xp: Any, x: Array, *, dtype: Any) -> Array:
    return xp.widen(x, dtype)


def _keep(xp: Any, x: Array, w: Array, *, cell: str, stored: str) -> Array:
    return xp.recurrent_keep_half(cell, x, w, stored)


def _places(xp: Any, x: Array, *, window: Any) -> Array:
    return xp.max_places(x, window)


def _unplace(xp: Any, g: Array, places: Array, *, size: Any, window: Any) -> Array:
    return xp.max_unplace(g, places, size, window)


PLACES, UNPLACE = _Move(_places, "max_places"), _Move(_unplace, "max_unplace")
KEEP = _Move(_keep, "recurrent_keep")
NARROW, WIDEN = _Move(_narrow, "narrow"), _Move(_widen, "widen")


def rewrite(trace: Any, dtype: str, backend: Backend) -> None:
    """Let a traced step hold in `dtype` what waits for its backward pass."""
    early, late = _parts(trace)
    turn = _Call(None, (), {}, -1)
    calls = backend.simplified(trace, [*early, turn, *late])
    place = next(i for i, call in enumerate(calls) if call is turn)
    trace.calls = [*calls[:place], *calls[place + 1 :]]
    trace.turn = None if trace.turn is None else place
    trace.calls = _Rewriting(trace, dtype, backend).calls()


def waiting(trace: Any) -> Iterator[int]:
    """Yield the values in memory of their own that the backward pass finds there."""
    early, late = _parts(trace)
    makers = {c.output: c for c in early if c.output is not None}
    found = set()
    for call in late:
        for i in _values(call):
            while i in makers and _is_view(makers[i]):
                i = makers[i].inputs[0]
            if i in makers:
                found.add(i)
    yield from sorted(found)


def waiting_bytes(trace: Any) -> int:
    """Return how much memory a step holds from its forward to its backward pass."""
    kinds = (trace.kinds[i] for i in waiting(trace))
    return sum(prod(shape) * dtype.itemsize for shape, dtype in kinds)


class _Rewriting:
    """The calls of a trace, with moves between them."""

    def __init__(self, trace: Any, dtype: str, backend: Backend) -> None:
        self.trace, self.kinds = trace, trace.kinds
        self.dtype, self.stored = dtype, backend.half(dtype)
        self.backend, self.fast = backend, backend.fast_half
        self.early, self.late = _parts(trace)
        self.early = [self._narrowly(call) for call in self.early]
        self.makers = {c.output: c for c in self.early if c.output is not None}
        self.needed = set(self._needed())
        self.first: list[Any] = []  # calls on what is there before the step
        self.after: dict[int, list[Any]] = {}  # calls to be made once a value is
        self.rest: list[Any] = []  # the backward pass
        self.halves: dict[int, int] = {}  # by the value they are of
        self.again: dict[int, int] = {}  # what the backward pass uses for a value

    def calls(self) -> list[Any]:
        """Return all calls in order."""
        early = [made for call in self.early for made in self._multiplied(call)]
        for call in self.late:
            self._add_late(call)
        before, rest = [*self.first, *early], self.rest
        self.trace.turn = sum(1 for _ in self._with_moves(before))
        return [*self._with_moves(before), *self._with_moves(rest)]

    def _with_moves(self, calls: list[Any]) -> Iterator[Any]:
        """Yield the calls, each with what is to be made of its result."""
        for call in calls:
            yield call
            yield from self._with_moves(self.after.get(call.output, []))

    def _add_late(self, call: Any) -> None:
        if self._is_mask(call):
            self._after(max(i for i in _values(call) if i in self.makers), call)
            self.makers[call.output] = call
            return
        if self._is_product(call):
            self.rest += self._multiplied(call)
            return
        if _name(call) == "max_unpool" and call.inputs[1] in self.makers:
            call = self._by_places(call)
        inputs = (i if isinstance(i, tuple) else self._late(i) for i in call.inputs)
        self.rest.append(call._replace(inputs=tuple(inputs)))

    def _needed(self) -> Iterator[int]:
        """Yield the values that the backward pass reads as they are, or a view of."""
        for call in self.late:
            if not self._is_mask(call):
                yield from map(self._root, _values(call))

    def _root(self, i: int) -> int:
        while i in self.makers and _is_view(self.makers[i]):
            i = self.makers[i].inputs[0]
        return i

    def _is_mask(self, call: Any) -> bool:
        """Say whether the backward pass compares what the forward pass made.

        One byte of each answer then waits, not the number.
        """
        inputs = set(_values(call))
        if call.output is None or "bool" not in str(self.kinds[call.output][1]):
            return False
        return bool(inputs & set(self.makers)) and inputs <= {
            *self.makers,
            *self.trace.constants,
        }

    def _by_places(self, call: Any) -> Any:
        """Return max_unpool(g, x) with where the largest of x lie, a byte for each."""
        g, x = call.inputs
        window = call.static["window"]
        if not hasattr(self.backend, "max_places") or prod(window.kernel) > 255:
            return call
        shape, byte = self.kinds[g][0], self.backend.zeros((0,), dtype="uint8").dtype
        places = self._new((shape, byte))
        self._after(x, _Call(PLACES, (x,), {"window": window}, places))
        static = {"window": window, "size": tuple(self.kinds[x][0][1:3])}
        return _Call(UNPLACE, (g, places), static, call.output)

    def _narrowly(self, call: Any) -> Any:
        """Return a call with one that narrows what it makes by itself in its place."""
        known = hasattr(self.backend, "recurrent_keep_half")
        if _name(call) != "recurrent_keep" or not known:
            return call
        (batch, width), dtype = self.kinds[call.output]
        if not str(dtype).endswith("float32"):
            return call
        x, w = call.inputs
        width += (self.kinds[x][0][0] + 1) * self.kinds[w][0][0]  # x, 1, 1, h are wide
        self.kinds[call.output] = (batch, width), self.stored
        static = call.static | {"stored": self.dtype}
        return _Call(KEEP, call.inputs, static, call.output)

    def _late(self, i: int) -> int:
        """Return what stands for value i in the backward pass."""
        if i in self.trace.outputs or i not in self.makers:
            return i
        if self.makers[i].primitive is KEEP:
            return i
        if i not in self.again:
            self.again[i] = self._brought_back(i)
        return self.again[i]

    def _brought_back(self, i: int) -> int:
        maker = self.makers[i]
        if _is_view(maker):
            source = self._late(maker.inputs[0])
            if source == maker.inputs[0]:
                return i
            return self._call(self.rest, maker, (source,), self.kinds[i])
        if self._is_of_mask(i) or self._passes(i) <= PASSES:
            inputs = tuple(
                k if isinstance(k, tuple) else self._late(k) for k in maker.inputs
            )
            return self._call(self.rest, maker, inputs, self.kinds[i])
        if not self._is_worth_it(i):
            return i
        wide = _Call(WIDEN, (), {"dtype": self.kinds[i][1]}, i)
        return self._call(self.rest, wide, (self._half(i),), self.kinds[i])

    def _is_of_mask(self, i: int) -> bool:
        """Say whether value i is a mask as numbers, perhaps times a number."""
        maker = self.makers.get(i)
        if maker is None:
            return False
        if _name(maker) == "astype":
            return "bool" in str(self.kinds[maker.inputs[0]][1])
        values = _values(maker)
        return (
            _name(maker) == "multiply"
            and len(values) == 1
            and self._is_of_mask(values[0])
        )

    def _passes(self, i: int) -> int:
        """Return how many cheap calls make value i of what is there anyway."""
        maker = self.makers[i]
        read = _name(maker) == "recurrent" and len(maker.inputs) == 3
        if _name(maker) not in CHEAP and not read:  # read out of what a sweep keeps
            return PASSES + 1
        return 1 + sum(map(self._passes_of_input, _values(maker)))

    def _passes_of_input(self, i: int) -> int:
        i = self._root(i)
        there = i not in self.makers or i in self.needed
        if there or self._is_of_mask(i) or not self._is_worth_it(i):
            return 0
        return self._passes(i)

    def _is_worth_it(self, i: int) -> bool:
        """Say whether value i is large, and more than one number for each row."""
        shape, dtype = self.kinds[i]
        real = str(dtype).endswith(("float32", "float64"))
        return real and prod(shape) >= LEAST and shape[-1] > 1

    def _half(self, i: int) -> int:
        """Return the half of value i, made as soon as the value is."""
        if i in self.halves:
            return self.halves[i]
        kind, maker = (self.kinds[i][0], self.stored), self.makers.get(i)
        moves: list[Any] = []
        if maker is not None and _is_view(maker):
            half = self._call(moves, maker, (self._half(maker.inputs[0]),), kind)
        else:
            narrow = _Call(NARROW, (i,), {"dtype": self.dtype}, i)
            half = self._call(moves, narrow, (i,), kind)
        self._after(i, moves[0])
        self.halves[i] = half
        return half

    def _is_product(self, call: Any) -> bool:
        """Say whether a call multiplies halves: all its operands are real arrays."""
        return (
            self.fast
            and _name(call) in PRODUCTS
            and all(self._is_real(i) for i in call.inputs)
        )

    def _multiplied(self, call: Any) -> list[Any]:
        """Return a call, with what widens its result if it is a product of halves."""
        if not self._is_product(call):
            return [call]
        shape, dtype = self.kinds[call.output]
        half = self.halves[call.output] = self._new((shape, self.stored))
        product = call._replace(inputs=tuple(map(self._half, call.inputs)), output=half)
        return [product, _Call(WIDEN, (half,), {"dtype": dtype}, call.output)]

    def _is_real(self, i: Any) -> bool:
        return not isinstance(i, tuple) and "float" in str(self.kinds[i][1])

    def _call(
        self, calls: list[Any], call: Any, inputs: tuple[Any, ...], kind: Any
    ) -> int:
        """Add a call with other inputs and a new result; return the result's number."""
        number = self._new(kind)
        calls.append(call._replace(inputs=inputs, output=number))
        return number

    def _after(self, i: int, call: Any) -> None:
        known = i in self.trace.constants or i in self.trace.arguments
        (self.first if known else self.after.setdefault(i, [])).append(call)

    def _new(self, kind: Any) -> int:
        self.kinds.append(kind)
        return len(self.kinds) - 1


def _parts(trace: Any) -> tuple[list[Any], list[Any]]:
    """Return the live calls before the first gradient, and the others."""
    calls = trace.live_calls()
    late = set() if trace.turn is None else {id(c) for c in trace.calls[trace.turn :]}
    return [c for c in calls if id(c) not in late], [c for c in calls if id(c) in late]


def _values(call: Any) -> list[int]:
    return [i for i in call.inputs if not isinstance(i, tuple)]


def _name(call: Any) -> str:
    return "" if call.primitive is None else str(call.primitive.name)


def _is_view(call: Any) -> bool:
    return _name(call) in VIEWS and len(call.inputs) == 1
