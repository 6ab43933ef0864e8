"""What this machine can do at most, as measured: the two lines of a roofline.

Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from sillar.backends.numpy.threads import threads

_SIDE = 1024  # of the matrices
_COPIED = 64 * 2**20  # bytes: more than caches hold
_TRIALS = 5


class Limits(NamedTuple):
    """Operations per second of a matrix product, bytes per second of a copy."""

    operations: float
    bytes: float

    def seconds(self, operations: float, moved: float) -> float:
        """Return how long that much work takes at least."""
        return max(operations / self.operations, moved / self.bytes)

    def bound(self, operations: float, moved: float) -> str:
        """Return which of the two limits such work meets first."""
        computes = operations / self.operations > moved / self.bytes
        return "compute" if computes else "memory"


def limits(dtype: str = "float32") -> Limits:
    """Return the limits for a type and the present threads, measured once for each."""
    return _measured(dtype, threads())


@lru_cache
def _measured(dtype: str, threads: int) -> Limits:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(_SIDE, _SIDE)).astype(dtype)
    product = np.empty_like(a)
    seconds = _fastest(lambda: np.matmul(a, a, out=product))
    source = np.ones(_COPIED // 8)
    target = np.empty_like(source)
    copied = _fastest(lambda: np.copyto(target, source))
    return Limits(2 * _SIDE**3 / seconds, 2 * _COPIED / copied)


def _fastest(call: Callable[[], object]) -> float:
    call()
    best = float("inf")
    for _ in range(_TRIALS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
