"""Repeated stretches of a sequence."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """From `start` on, `period` elements that come `times` times in a row."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        """Return where the run is over."""
        return self.start + self.period * self.times


def runs(keys: Sequence[Hashable], longest: int, least: int = 3) -> Iterator[Run]:
    """Yield the elements in order, as runs; what is not repeated is one run of once.

    A period has at most `longest` elements and is repeated at least `least` times.
    """
    known: dict[Hashable, int] = {}
    numbers = [known.setdefault(key, len(known)) for key in keys]
    start = 0
    while start < len(numbers):
        window = numbers[start : start + longest + 1]
        periods = [p for p in range(1, len(window)) if window[p] == window[0]]
        found = [_run(numbers, start, period) for period in periods]
        repeated = [run for run in found if run.times >= least]
        run = max(repeated, key=lambda r: r.end, default=Run(start, 1, 1))
        yield run
        start = run.end


def _run(keys: Sequence[int], start: int, period: int) -> Run:
    end = start + period
    while end < len(keys) and keys[end] == keys[end - period]:
        end += 1
    return Run(start, period, max(1, (end - start) // period))
