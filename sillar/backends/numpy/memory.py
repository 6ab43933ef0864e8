"""Pages are kept in the process instead of going back to the kernel at every step.

A training step allocates and frees megabytes. By default glibc hands such blocks back
and the kernel clears them again at the next step, which can cost more than the
arithmetic. Peak memory stays the same; memory is not returned before the process ends.
"""

from __future__ import annotations

import sys

# (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD) of mallopt(3)
SETTINGS = ((-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 64 * 2**20))


def keep_pages() -> bool:
    """Ask glibc to keep freed pages; return whether there was a glibc to ask."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(name, value) for name, value in SETTINGS)
