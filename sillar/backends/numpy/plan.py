"""A traced step as straight-line Python over NumPy's own functions and planned memory.

Where each value lies is decided once: results of NumPy's functions are written into
buffers, and a buffer is taken again as soon as nobody needs what it holds, so that the
same few pages stay in the cache. Views of buffers are made once too. What is left for
a replay is one line for each call. Values that only a replay can know, the arguments
and what our own kernels return, are local variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import chain
from sillar.backends.numpy.chain import ELEMENTWISE
from sillar.backends.numpy.memory import aligned, empty
from sillar.backends.numpy.reductions import sum_into
from sillar.backends.numpy.source import function

# Primitives whose result may share its first operand's memory.
VIEWS = frozenset(("reshape", "transpose", "broadcast_to", "getitem", "einsum"))
# Kernels of ours that take an `out` argument, by the primitive's name.
INTO: dict[str, Callable[..., Array]] = {}


def compile_trace(
    trace: Any, calls: Sequence[Any], backend: Any, *, reuse: bool
) -> Callable[..., Any]:
    """Return the function of the trace's arguments that does the calls: its outputs.

    With `reuse` the outputs lie in the plan's own memory until the next replay.
    """
    homes, calls = settle(trace, calls, backend)
    writer = Writer(
        calls,
        trace.kinds,
        backend,
        homes=homes,
        given=trace.arguments,
        outputs=trace.outputs,
    )
    return writer.function(trace.arguments, trace.outputs, reuse=reuse)


def settle(
    trace: Any, calls: Sequence[Any], backend: Any
) -> tuple[dict[int, Array], list[Any]]:
    """Return the arrays that no replay makes, and the calls that replays do.

    Those are the constants, and what only looks at them, as the transpose of a weight.
    """
    made = {c.output for c in calls} | set(trace.arguments)
    used = {i for c in calls for i in c.inputs if not isinstance(i, tuple)}
    outputs, rest = set(trace.outputs), []
    homes = {i: trace.constants[i] for i in (used | outputs) - made}
    for call in calls:
        view = None if call.output in outputs else view_of(call, homes, backend)
        if view is None:
            rest.append(call)
        else:
            homes[call.output] = view
    return homes, rest


def view_of(call: Any, homes: dict[int, Array], backend: Any) -> Any:
    """Return the view that a call makes of memory that lies still, None without one."""
    if call.primitive is None or call.primitive.name not in VIEWS:
        return None
    source = homes.get(call.inputs[0])
    if source is None or len(call.inputs) > 1 or call.primitive.name == "einsum":
        return None
    view = call.primitive.forward(backend, source, **call.static)
    return view if np.may_share_memory(view, source) else None


class _Memory:
    """Buffers, taken again in the reverse order of their release."""

    def __init__(self) -> None:
        self._free: list[Array] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
        """Return a buffer and the array of this kind that lies in it."""
        size = prod(shape) * dtype.itemsize
        fitting = [b for b in self._free if size <= b.nbytes <= 2 * size]
        if fitting:
            buffer = min(fitting[::-1], key=lambda b: b.nbytes)
            self._free = [b for b in self._free if b is not buffer]
        else:
            buffer = aligned(size)
        return buffer, buffer[:size].view(dtype).reshape(shape)

    def release(self, buffer: Array) -> None:
        self._free.append(buffer)


class Writer:
    """Knows where each value lies and when it is used last, and writes the lines.

    `homes` are arrays that lie still, `given` the values that the function is given,
    and `boxes` where some results must end, because somebody else reads them there.
    Blocks of chains are `wider` times as large as one thread alone finds best.
    """

    def __init__(
        self,
        calls: Sequence[Any],
        kinds: Sequence[tuple[tuple[int, ...], Any]],
        backend: Any,
        *,
        homes: dict[int, Array],
        given: Sequence[int],
        outputs: Sequence[int] = (),
        boxes: dict[int, Array] | None = None,
        wider: int = 1,
    ) -> None:
        self.wider = wider
        self.calls, self.kinds, self.backend = calls, kinds, backend
        self.home = homes
        self.boxes = boxes or {}
        self.fixed = set(homes)
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.made = {c.output for c in self.calls} | set(given)
        self.buffers: dict[int, list[Array]] = {}  # by the value that owns them
        self.owned: set[int] = set()  # values whose home is a buffer of ours
        self.memory = _Memory()
        self.owner = list(range(len(kinds)))
        self.last: dict[int, int] = {}
        self._find_last_uses(outputs)
        self.ends: dict[int, list[int]] = {}
        for i, place in self.last.items():
            self.ends.setdefault(place, []).append(i)
        self._lay_out_packs()

    def function(
        self,
        given: Sequence[int],
        outputs: Sequence[int],
        *,
        reuse: bool,
        more: Any = (),
    ) -> Callable[..., Any]:
        """Return the function of the given values that does all calls: its outputs."""
        place = 0
        for length in chain.lengths(self.calls, self.kinds):
            if length == 1:
                self._write(place, self.calls[place])
            else:
                self._write_chain(place, place + length)
            place += length
        results = [self._result(i, reuse) for i in outputs]
        self.lines.append(f"return ({''.join(f'{text}, ' for text in results)})")
        return function([*more, *(f"v{i}" for i in given)], self.lines, self.names)

    def _find_last_uses(self, outputs: Sequence[int]) -> None:
        for place, call in enumerate(self.calls):
            if call.primitive is not None and call.primitive.name in VIEWS:
                self.owner[call.output] = self.owner[call.inputs[0]]
            for i in call.inputs:
                if not isinstance(i, tuple):
                    self.last[i] = self.last[self.owner[i]] = place
        for i in outputs:
            self.last[i] = self.last[self.owner[i]] = len(self.calls)

    def _lay_out_packs(self) -> None:
        """Give the results that are packed into a vector their places in it."""
        makers = {c.output: c for c in self.calls if c.primitive is not None}
        for call in makers.values():
            if call.primitive.name != "pack":
                continue
            vector = self._vector(call.output)
            end = 0
            for i in call.inputs:
                shape, dtype = self.kinds[i]
                part = vector[end : end + prod(shape)].reshape(shape)
                end += prod(shape)
                maker = makers.get(i)
                kept = i in self.home or i in self.boxes
                if maker is None or kept or dtype != vector.dtype:
                    continue
                if maker.primitive.name in (*ELEMENTWISE, "matmul", "sum"):
                    self.home[i] = part

    def _vector(self, i: int) -> Any:
        """Give a packed vector memory of its own."""
        vector = self.boxes.get(i)
        self.home[i] = empty(*self.kinds[i]) if vector is None else vector
        return self.home[i]

    def _write(self, place: int, call: Any) -> None:
        """Write a call's line, if it needs one, and release what it used last."""
        name = "effect" if call.primitive is None else call.primitive.name
        if name in VIEWS:
            self._view(place, call)
        elif name in ELEMENTWISE:
            operands = [self.text(i) for i in call.inputs]
            out = self.place_of(call.output, self.spare(place, call))
            self._line(place, ELEMENTWISE[name], [*operands, f"out={out}"])
        elif name == "matmul":
            operands = [self.text(i) for i in call.inputs]
            self._line(place, np.matmul, [*operands, self.place_of(call.output)])
        elif name == "sum":
            axis, keep = call.static.get("axis"), call.static.get("keepdims", False)
            rest = [repr(axis), repr(keep), self.place_of(call.output)]
            self._line(place, sum_into, [self.text(call.inputs[0]), *rest])
        elif name == "pack":
            self._pack(place, call)
        elif name in INTO and self._lies_in_order(call.output):
            operands = [self.text(i) for i in call.inputs]
            kernel = partial(INTO[name], **call.static)
            self._line(place, kernel, [*operands, f"out={self.place_of(call.output)}"])
        else:
            self._kernel(place, call)
        if call.output in self.boxes:
            self._into_its_box(call.output)
        self._release(place)

    def _result(self, i: int, reuse: bool) -> str:
        """Return the text of an output, a copy where a replay would write over it."""
        ours = i in self.home and i not in self.fixed
        return f"{self.text(i)}.copy()" if ours and not reuse else self.text(i)

    def text(self, i: Any) -> str:
        """Return a value as it stands in a line."""
        if isinstance(i, tuple):
            return repr(i[0])
        if i not in self.home:
            return f"v{i}"
        self.names[f"c{i}"] = self.home[i]
        return f"c{i}"

    def _line(
        self, place: int, function: Any, operands: Sequence[str], target: str = ""
    ) -> None:
        self.names[f"f{place}"] = function
        self.lines.append(f"{target}f{place}({', '.join(operands)})")

    def _view(self, place: int, call: Any) -> None:
        """Make a view of a value whose place is known, now; leave others to replays."""
        source = self.home.get(call.inputs[0])
        view = view_of(call, self.home, self.backend)
        if view is not None:
            self.home[call.output] = view
        elif source is not None and call.primitive.name == "reshape":
            out = self.place_of(call.output)  # of what is not in order: a copy
            named = f"{out}w"
            self.names[named] = self.home[call.output].reshape(source.shape)
            self._line(place, np.copyto, [named, self.text(call.inputs[0])])
        else:
            self._kernel(place, call)

    def _kernel(self, place: int, call: Any) -> None:
        """Write a call of anything: its result is a value of the replay."""
        operands = [self.text(i) for i in call.inputs]
        if isinstance(call.effect, str):  # a line as it stands
            return self.lines.append(call.effect)
        if call.effect is not None:
            return self._line(place, call.effect, operands)
        run = partial(call.primitive.forward, self.backend, **call.static)
        return self._line(place, run, operands, f"v{call.output} = ")

    def _write_chain(self, first: int, stop: int) -> None:
        """Write the calls from `first` to `stop` as a loop over blocks of rows."""
        shape = self.kinds[self.calls[first].output][0]
        loop = chain.Loop(self, first, stop, shape)
        for place in range(first, stop):
            loop.add(place, self.calls[place])
        self.lines += loop.lines()
        self.made -= loop.inside.keys()  # they have no names to forget
        for place in range(first, stop):  # not before: every block needs its operands
            if self.calls[place].output in self.boxes:
                self._into_its_box(self.calls[place].output)
            self._release(place)

    def _lies_in_order(self, i: int) -> bool:
        """Say whether the place where a result must end is in one piece."""
        box = self.boxes.get(i)
        return box is None or bool(box.flags.c_contiguous)

    def _into_its_box(self, i: int) -> None:
        box, home = self.boxes[i], self.home.get(i)
        if home is None or not _same_place(home, box):
            self.names |= {"copyto": np.copyto, f"b{i}": box}
            if home is not None:
                self.names[f"h{i}"] = home
            self.lines.append(f"copyto(b{i}, {f'v{i}' if home is None else f'h{i}'})")
            self.home[i] = box

    def _pack(self, place: int, call: Any) -> None:
        """Copy into the vector what does not lie in it already."""
        end, vector = 0, self.home[call.output]
        for k, i in enumerate(call.inputs):
            shape, _ = self.kinds[i]
            part = vector[end : end + prod(shape)].reshape(shape)
            end += prod(shape)
            home = self.home.get(i)
            if home is not None and _same_place(home, part):
                continue
            self.names[f"c{call.output}p{k}"] = part
            self.names["copyto"] = np.copyto
            operands = f"c{call.output}p{k}, {self.text(i)}, 'same_kind'"
            self.lines.append(f"copyto({operands})")

    def place_of(self, i: int, spare: int | None = None) -> str:
        """Give a value a place, that of `spare` if there is one; return its name."""
        if i in self.boxes:
            self.home[i] = self.boxes[i]
        elif i not in self.home:
            shape, dtype = self.kinds[i]
            if spare is not None:
                self.home[i] = self.home[spare]
                self.buffers[i] = self.buffers.pop(spare)
                self.owned.add(i)
            else:
                buffer, self.home[i] = self.memory.take(shape, dtype)
                self.buffers.setdefault(self.owner[i], []).append(buffer)
                self.owned.add(i)
        return self.text(i)

    def spare(self, place: int, call: Any) -> int | None:
        """Return an operand whose memory the result of an elementwise call may take."""
        kind = self.kinds[call.output]
        for i in call.inputs:
            own = not isinstance(i, tuple) and i in self.owned and self.owner[i] == i
            if own and self.kinds[i] == kind and self.last[i] == place:
                return int(i)
        return None

    def _release(self, place: int) -> None:
        for i in self.ends.get(place, ()):
            for buffer in self.buffers.pop(i, ()):
                self.memory.release(buffer)
            if i in self.made and i not in self.home:
                self.lines.append(f"del v{i}")


def _same_place(a: Array, b: Array) -> bool:
    """Say whether two arrays are the same stretch of memory, in the same order."""
    where = a.__array_interface__["data"], a.strides, a.shape, a.dtype
    return bool(where == (b.__array_interface__["data"], b.strides, b.shape, b.dtype))
