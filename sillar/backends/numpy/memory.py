"""Memory that is fast to take: pages are kept, and buffers start at cache lines.

A training step allocates and frees megabytes. By default glibc hands such blocks back
and the kernel clears them again at the next step, which can cost more than the
arithmetic. Peak memory stays the same; memory is not returned before the process ends.
"""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np

# (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD) of mallopt(3)
SETTINGS = ((-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 64 * 2**20))
LINE = 64  # bytes: where a vector register's load starts


def keep_pages() -> bool:
    """Ask glibc to keep freed pages; return whether there was a glibc to ask."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(name, value) for name, value in SETTINGS)


def give_back() -> None:
    """Give the pages that nothing lies in to the system, where there is glibc."""
    if sys.platform.startswith("linux"):
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def aligned(size: int) -> Any:
    """Return `size` bytes of new memory that starts at a cache line."""
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size]


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return an array of its own, at the start of a cache line."""
    return aligned(prod(shape) * dtype.itemsize).view(dtype).reshape(shape)
