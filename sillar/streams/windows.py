"""Windows: lines of each source, gathered until there are enough to score."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np

from sillar.streams.folder import TAIL, Block, mark_of
from sillar.streams.parser import Parser


class Window(NamedTuple):
    """Lines of a source from `start` to `end`, as numbers of templates."""

    source: str
    start: int
    end: int
    numbers: np.ndarray
    since: float  # when the line that filled it came
    mark: int | None  # checksum of its last line in a file


class _Open(NamedTuple):
    """What a window has that is not full."""

    start: int
    numbers: np.ndarray
    since: float  # when its first line came


class Windows:
    """Cuts sources into windows of `length` lines, or of what came in `delay` s."""

    def __init__(self, parser: Parser, length: int, delay: float) -> None:
        self.parser, self.length, self.delay = parser, length, delay
        self.open: dict[str, _Open] = {}
        self.ends: dict[str, tuple[int, int | None]] = {}  # of what is open, with mark

    def add(self, block: Block, now: float) -> list[Window]:
        """Return the windows that these lines fill."""
        numbers = self.parser(block.lines)
        before = self.open.pop(block.source, None)
        if before is not None and self.ends[block.source][0] != block.start:
            before = None  # a client sends again what was not acknowledged
        held = 0 if before is None else len(before.numbers)
        if before is not None:
            numbers = np.concatenate([before.numbers, numbers])
        start = block.start if before is None else before.start
        cuts = range(self.length, len(numbers) + 1, self.length)
        ends = _ends(block, [cut - held for cut in cuts])
        found = []
        for cut, end in zip(cuts, ends, strict=True):
            part, mark = numbers[cut - self.length : cut], _mark(block, end)
            found.append(Window(block.source, start, end, part, now, mark))
            start = end
        rest = numbers[len(found) * self.length :]
        if len(rest):
            fresh = before is None or bool(found)
            since = now if before is None or fresh else before.since
            self.open[block.source] = _Open(start, rest, since)
            self.ends[block.source] = block.end, _mark(block, block.end)
        return found

    def due(self, now: float) -> list[Window]:
        """Return the windows that have waited long enough for more lines."""
        late = [s for s, held in self.open.items() if now - held.since >= self.delay]
        return [self._closed(source, now) for source in late]

    def rest(self, now: float) -> list[Window]:
        """Return all windows as they are."""
        return [self._closed(source, now) for source in list(self.open)]

    def _closed(self, source: str, now: float) -> Window:
        held = self.open.pop(source)
        end, mark = self.ends.pop(source)
        return Window(source, held.start, end, held.numbers, now, mark)


def _ends(block: Block, counts: list[int]) -> list[int]:
    """Return where in its source so many lines of the block end."""
    if block.numbered:
        return [block.start + count for count in counts]
    if not counts:
        return []
    lengths = map(len, block.lines.split(b"\n"))
    after = list(accumulate(lengths, lambda total, n: total + n + 1, initial=0))
    return [min(block.end, block.start + after[count]) for count in counts]


def _mark(block: Block, end: int) -> int | None:
    """Return the checksum of the last line before a position in the block."""
    if block.numbered:
        return None
    stop = end - block.start
    return mark_of(block.lines[max(0, stop - TAIL) : stop])
