"""Effects that parts of a step do together, each on a stretch of the vectors.

An optimizer's rule is the same for each element, so every process takes its share of
it, where the vectors lie in memory that all of them see.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy.sharing import lasts, shared
from sillar.backends.replay import Work, work_of


class Stretches:
    """An effect's work in shares, and what the main process does before and after."""

    def __init__(self, effect: Any, work: Work, count: int) -> None:
        self.effect, self.work = effect, work
        self.numbers = shared((len(work.numbers()),), np.float64)
        n, stretch = work.arrays[0].shape[0], work.stretch
        assert stretch is not None
        ends = [n * k // count // 16 * 16 for k in range(count)]  # at cache lines
        runs = [stretch(slice(*pair)) for pair in pairwise([*ends, n])]
        self.shares = [partial(_run, run, self.numbers) for run in runs]

    def note(self) -> None:
        """Write down the numbers of this time, where all processes read them."""
        self.numbers[:] = self.work.numbers()

    def hold(self) -> bool:
        """Say whether the effect would still do the same."""
        now = work_of(self.effect)
        return (
            now is not None
            and now.stretch is not None
            and now.known == self.work.known
            and len(now.arrays) == len(self.work.arrays)
            and all(a is b for a, b in zip(now.arrays, self.work.arrays, strict=True))
        )


def stretches(effect: Any, count: int) -> Stretches | None:
    """Return an effect in shares; None if it is not for several processes."""
    work = work_of(effect)
    if work is None or work.stretch is None or not all(map(lasts, work.arrays)):
        return None
    return Stretches(effect, work, count)


def _run(run: Callable[..., None], numbers: Array, *inputs: Array) -> None:
    run(*inputs, *numbers.tolist())
