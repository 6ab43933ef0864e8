"""Elementwise calls in a row, done block by block.

An addition of arrays that lie in a core's cache takes a third of the time of one whose
operands come from memory. So calls on the same large shape are done together on a few
rows at a time: what one of them leaves for the next never leaves the cache, and what
nobody else needs is never whole anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import half, select, special

BLOCK = 16_384  # elements: some ten blocks of float32 fit into an L2 cache of 1 MiB
WIDEST = 4 * BLOCK  # elements of a row that is a block by itself
LEAST = 4  # blocks, or the loop costs more than it saves


def _relu(x: Array, out: Array) -> None:
    np.maximum(x, 0, out=out)


def _sigmoid(x: Array, out: Array) -> None:
    np.multiply(x, 0.5, out=out)
    np.tanh(out, out=out)
    np.add(out, 1.0, out=out)
    np.multiply(out, 0.5, out=out)


def _cast(x: Array, out: Array) -> None:
    np.copyto(out, x, casting="unsafe")


# Primitives that are a function of each element with an `out` argument, by name.
ELEMENTWISE = {
    name: getattr(np, name)
    for name in (
        *("add", "subtract", "multiply", "divide", "negative", "exp", "expm1", "log"),
        *("log1p", "sqrt", "sin", "cos", "tanh", "sign", "maximum", "minimum", "power"),
        *("absolute", "greater", "greater_equal", "less", "less_equal", "equal"),
        "not_equal",
    )
} | {
    **{"relu": _relu, "sigmoid": _sigmoid, "astype": _cast},
    **{"erf": special.erf, "normal_cdf": special.normal_cdf},
    **{"normal_pdf": special.normal_pdf, "where": select.where},
    **{"narrow": half.narrow_into, "widen": half.widen_into},
}


def lengths(calls: Sequence[Any], kinds: Sequence[Any]) -> Iterator[int]:
    """Yield how many calls in a row make a chain, 1 for a call by itself."""
    start = 0
    while start < len(calls):
        stop = start + 1
        shape = _chained(calls[start], kinds)
        while shape and stop < len(calls) and _chained(calls[stop], kinds) == shape:
            stop += 1
        yield stop - start
        start = stop


def _rows(shape: tuple[int, ...], block: int) -> list[slice]:
    """Return the blocks of a shape, as slices of its first axis."""
    step = max(1, block // prod(shape[1:]))
    return [slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step)]


def _is_cut(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Say whether an operand has rows of its own in a chain over shape `whole`."""
    return len(shape) == len(whole) and shape[0] == whole[0]


def _cut(array: Array, blocks: Sequence[slice]) -> list[Array]:
    """Return the blocks of an array."""
    return [array[block] for block in blocks]


def _chained(call: Any, kinds: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of a call that may be in a chain, () otherwise."""
    if call.primitive is None or call.primitive.name not in ELEMENTWISE:
        return ()
    shape: tuple[int, ...] = kinds[call.output][0]
    size = prod(shape)
    if size < LEAST * BLOCK or size > shape[0] * WIDEST or shape[0] < 2:
        return ()
    return shape


class Loop:
    """A chain of calls as a loop over blocks of rows."""

    def __init__(
        self, writer: Any, first: int, stop: int, shape: tuple[int, ...]
    ) -> None:
        self.writer, self.first, self.stop, self.shape = writer, first, stop, shape
        self.blocks = _rows(shape, BLOCK * writer.wider)
        self.slots = _Slots()
        self.inside: dict[int, int] = {}  # value: the slot it is in
        self.known: dict[str, Array] = {}  # what is cut now, by the block's name
        self.given: dict[str, str] = {}  # what a replay cuts: block's name, value's
        self.body: list[str] = []

    def add(self, place: int, call: Any) -> None:
        """Write a call on a block."""
        writer = self.writer
        operands = [self._operand(i) for i in call.inputs]
        for i in dict.fromkeys(call.inputs):
            if i in self.inside and writer.last[i] == place:
                self.slots.release(self.inside[i])
        if self._is_needed_whole(call.output):
            writer.place_of(call.output, writer.spare(place, call))
            out = self._operand(call.output)
        else:
            slot = self.inside[call.output] = self.slots.take(
                writer.kinds[call.output][1]
            )
            out = f"s{slot}"
        writer.names[f"f{place}"] = ELEMENTWISE[call.primitive.name]
        self.body.append(f"    f{place}({', '.join(operands)}, out={out})")

    def lines(self) -> list[str]:
        """Return the loop."""
        memory, size = self.writer.memory, self.blocks[0].stop
        taken = [memory.take((size, *self.shape[1:]), t) for t in self.slots.kinds]
        columns = [_cut(array, self.blocks) for array in self.known.values()]
        for _, array in taken:
            columns.append([array[: b.stop - b.start] for b in self.blocks])
        for buffer, _ in taken:
            memory.release(buffer)
        name = f"k{self.first}"
        targets = [*self.known, *(f"s{slot}" for slot in range(len(taken)))]
        self.writer.names[name] = list(zip(*columns, strict=True))
        head = f"for {', '.join(targets)}, in {name}:"
        if self.given:
            self.writer.names |= {"zip": zip, "cut": _cut}
            self.writer.names[f"{name}b"] = self.blocks
            cuts = ", ".join(f"cut({v}, {name}b)" for v in self.given.values())
            blocks = f"({', '.join(targets)},), {', '.join(self.given)}"
            head = f"for {blocks} in zip({name}, {cuts}):"
        return [head, *self.body]

    def _operand(self, i: Any) -> str:
        """Return an operand's text within a block."""
        if i in self.inside:
            return f"s{self.inside[i]}"
        text: str = self.writer.text(i)
        if isinstance(i, tuple) or not _is_cut(self.writer.kinds[i][0], self.shape):
            return text
        home = self.writer.home.get(i)
        if home is None:
            self.given[f"{text}_"] = text
        else:
            self.known[f"{text}_"] = home
        return f"{text}_"

    def _is_needed_whole(self, i: int) -> bool:
        writer = self.writer
        return i in writer.home or i in writer.boxes or writer.last[i] >= self.stop


class _Slots:
    """Places of a block's size for what a chain needs nowhere else."""

    def __init__(self) -> None:
        self.kinds: list[Any] = []  # a data type for each place
        self._free: list[int] = []

    def take(self, dtype: Any) -> int:
        """Return the number of a place that is free, or of a new one."""
        for slot in self._free:
            if self.kinds[slot] == dtype:
                self._free.remove(slot)
                return slot
        self.kinds.append(dtype)
        return len(self.kinds) - 1

    def release(self, slot: int) -> None:
        """Let the place be taken again."""
        self._free.append(slot)
