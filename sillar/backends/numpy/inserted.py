"""Calls that a plan in parts inserts: lines, effects, and cuts of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy.split import part_of


class Step(NamedTuple):
    """A call that no trace recorded."""

    primitive: Any
    inputs: tuple[Any, ...]
    static: dict[str, Any]
    output: int | None
    effect: Any = None


class Load(NamedTuple):
    """What takes the place of a primitive: it cuts a share out of an argument."""

    forward: Callable[..., Array]
    name: str = "load"


def line(text: str) -> Step:
    """Return a line of text as a call."""
    return Step(None, (), {}, None, text)


def effect(function: Callable[[], None]) -> Step:
    """Return what is done each time, without inputs, as a call."""
    return Step(None, (), {}, None, function)


def load(cut: Callable[..., Array], source: int, number: int) -> Step:
    """Return the call that makes value `number` of the source."""
    return Step(Load(cut), (source,), {}, number)


def cut_out(backend: Any, array: Array, *, axis: int, share: slice) -> Array:
    """Return a share of an array along an axis."""
    return part_of(array, axis, share)


def same(backend: Any, array: Array) -> Array:
    """Return the array."""
    return array


def add_up(terms: Sequence[Array], out: Array) -> None:
    """Write the sum of two terms or more to `out`."""
    np.add(terms[0], terms[1], out=out)
    for term in terms[2:]:
        np.add(out, term, out=out)
