"""Memory that a kernel needs for the length of a call, kept for the next call.

Each thread has its own, so kernels may run in several threads at once. What a name
stands for is as large as the largest block that was ever asked for under it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from sillar.backends.numpy.memory import aligned

BUFFER = 512  # elements of a buffer of NumPy's own, 8192 otherwise


class _Thread:
    """What names stand for in one thread."""

    def __init__(self) -> None:
        self.buffers: dict[str, Any] = {}


class _Kept(threading.local):
    def __init__(self) -> None:
        self.thread = _Thread()  # it goes when the thread goes
        self.buffers = self.thread.buffers
        _everywhere.add(self.thread)


_everywhere: weakref.WeakSet[_Thread] = weakref.WeakSet()
_kept = _Kept()


def forget() -> None:
    """Let go of what all threads keep; a kernel at work is not disturbed."""
    for thread in list(_everywhere):
        thread.buffers.clear()


def take(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return an array for this thread, in the memory that `name` stands for.

    It holds anything, and whoever takes the name next may write over it.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    buffer = _kept.buffers.get(name)
    if buffer is None or buffer.nbytes < size:
        buffer = _kept.buffers[name] = aligned(size)
    return buffer[:size].view(dtype).reshape(shape)


@contextmanager
def few_buffers() -> Iterator[None]:
    """Context in which NumPy reads long rows of a view where they lie.

    It copies an operand that is not contiguous into buffers first, which is faster for
    short rows only; rows that are longer than a buffer it leaves alone.
    """
    before = np.setbufsize(BUFFER)
    try:
        yield
    finally:
        np.setbufsize(before)
