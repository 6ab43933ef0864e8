"""Memory that a process shares with the children that work for it.

What is shared for the length of a plan ends with it. Vectors of parameters and of
optimizers last: plans come and go over them. In a process that somebody else forks they
are its own, as all other memory is.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from math import prod
from typing import Any

import numpy as np

from sillar.backends.base import Array

# PROT_READ | PROT_WRITE and MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS of Linux's mmap(2)
READ_WRITE, ALONE = 0x3, 0x32

_lasting: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def shared(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return an array whose memory is that of children too."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def lasting(vector: Array) -> Array:
    """Return the vector, in memory that lasts and that children share."""
    if lasts(vector):
        return vector
    memory = mmap.mmap(-1, max(vector.nbytes, 1))
    _lasting.add(memory)
    copy = np.frombuffer(memory, vector.dtype, len(vector))
    copy[:] = vector
    return copy


def lasts(array: Array) -> bool:
    """Say whether an array lies in memory that lasts and that children share."""
    memory = _map_of(array)
    return memory is not None and memory in _lasting


def _map_of(array: Array) -> Any:
    while isinstance(array.base, np.ndarray):
        array = array.base
    memory = array.base.obj if isinstance(array.base, memoryview) else None
    return memory if isinstance(memory, mmap.mmap) else None


class _Forks:
    """The thread that is forking a child which will work for this process."""

    thread: int | None = None


_forks = _Forks()


def fork() -> int:
    """Return the number of a new child, or 0 in it; it shares all that is shared."""
    _forks.thread = threading.get_ident()
    try:
        return os.fork()
    finally:
        _forks.thread = None


def _part_ways() -> None:
    """Put copies in the places of what lasts, in a process that goes its own way."""
    if _forks.thread == threading.get_ident():
        return
    take = ctypes.CDLL(None, use_errno=True).mmap
    take.restype, size = ctypes.c_void_p, ctypes.c_size_t
    take.argtypes = [ctypes.c_void_p, size, *[ctypes.c_int] * 3, ctypes.c_long]
    for memory in list(_lasting):
        content, start = bytes(memory), np.frombuffer(memory, np.uint8).ctypes.data
        if take(start, len(memory), READ_WRITE, ALONE, -1, 0) != start:
            raise OSError(ctypes.get_errno(), "no memory for a copy of the parameters")
        memory[:] = content
    _lasting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_part_ways)
